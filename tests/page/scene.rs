//! The page of a running exporter in a browser, and another process that holds an object. Entry points: [`Scene::open`] and
//! [`hold_as`].

use std::env;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::thread;

use nix::sys::prctl;
use serde_json::Value;
use test_support::objects::Map;
use test_support::running::Running;

use crate::exporter::Exporter;
use crate::webdriver::Browser;

/// The tabs, in their order.
pub(crate) const TABS: [&str; 9] =
    ["programs", "maps", "links", "owners", "hooks", "orphans", "btfs", "events", "exporter"];

/// Waits for the live page in place of what the server made, with its rows.
pub(crate) const LIVE: &str = "return document.documentElement.classList.contains('live')
    && document.querySelector('#app h1') !== null
    && document.querySelector('#app [aria-busy=true]') === null";

/// Returns the texts of a column, of the rows in the document.
pub(crate) const COLUMN: &str = "
    const headings = [...document.querySelectorAll('#rows thead th')];
    const position = headings.findIndex((heading) => heading.dataset.field === arguments[0]);
    if (position < 0) return null;
    return [...document.querySelectorAll('#rows tbody tr[data-key]')].map((row) => row.children[position].innerText.trim())";

/// An exporter, and a browser that shows its page.
pub(crate) struct Scene {
    pub(crate) exporter: Exporter,
    pub(crate) browser: Browser,
}

impl Scene {
    /// Starts both, and shows a part of the page, such as `?tab=maps`.
    pub(crate) fn open(part: &str) -> Self {
        let scene = Self { exporter: Exporter::start(), browser: Browser::start() };
        scene.show(part);
        scene
    }

    /// Shows a part of the page, and waits until it is live.
    pub(crate) fn show(&self, part: &str) {
        self.browser.go(&self.exporter.url(part));
        let _true: bool = self.browser.wait(&format!("{part} is live"), LIVE, &[]);
    }

    /// Returns the texts of a column of the table; none without that column.
    pub(crate) fn column(&self, field: &str) -> Vec<String> {
        let texts: Option<Vec<String>> = self.browser.run(COLUMN, &[Value::from(field)]);
        texts.unwrap_or_default()
    }

    /// Waits until a column has these texts, in this order.
    pub(crate) fn has_column(&self, field: &str, expected: &[String]) {
        let script = COLUMN.replace("arguments[0]", &format!("'{field}'"));
        self.browser.wait_for(&format!("the column {field}"), &script, &Value::from(expected));
    }

    /// Requires that nothing went wrong by the browser's own account.
    pub(crate) fn is_quiet(&self) {
        assert_eq!(self.browser.complaints(), Vec::<String>::new());
    }
}

/// In the environment of a process that holds a map: its name.
const HOLDS: &str = "HOLDS_A_MAP_UNDER_NAME";

/// Starts a process of this name, of at most 15 bytes, that holds a map as its standard input.
pub(crate) fn hold_as(name: &str, map: &Map) -> Running {
    let stdin = map.fd().try_clone_to_owned().expect("there is a descriptor left");
    let mut command = Command::new(env::current_exe().expect("this program has a path"));
    command.env(HOLDS, name).stdin(stdin).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let stdout = child.stdout.take().expect("a pipe");
    let child = Running(child);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("it writes a line");
    assert_eq!(line, "ready\n");
    child
}

/// Never returns in a process that [`hold_as`] started, and at once in any other.
pub(crate) fn hold_if_asked() {
    let Ok(name) = env::var(HOLDS) else { return };
    let name = std::ffi::CString::new(name).expect("a variable has no zero byte");
    prctl::set_name(&name).expect("a process may name itself");
    let mut stdout = io::stdout();
    stdout.write_all(b"ready\n").and_then(|()| stdout.flush()).expect("the parent reads");
    loop {
        thread::park();
    }
}
