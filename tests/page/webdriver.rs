//! A browser: Debian's Chromium without a window, driven by its chromedriver. Entry points: [`missing`] and [`Browser::start`].
//!
//! Source: "`WebDriver`" of the W3C (`w3.org/TR/webdriver2`); paths with `goog` and `se` are chromedriver's own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::running::Running;

/// Longest time that anything on the page takes.
pub(crate) const SOON: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(30);
const TIMEOUT: Duration = Duration::from_mins(2);

/// Names of keys that are no characters.
pub(crate) mod key {
    pub(crate) const TAB: &str = "\u{e004}";
    pub(crate) const ENTER: &str = "\u{e007}";
    pub(crate) const ESCAPE: &str = "\u{e00c}";
    pub(crate) const END: &str = "\u{e010}";
    pub(crate) const HOME: &str = "\u{e011}";
    pub(crate) const UP: &str = "\u{e013}";
    pub(crate) const DOWN: &str = "\u{e015}";
}

/// Returns what a test in a browser lacks; `None` where it can run.
pub(crate) fn missing() -> Option<String> {
    let runs = |program: &str| {
        let version =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    let absent = ["chromium", "chromedriver"].into_iter().find(|program| !runs(program));
    absent.map(|program| format!("needs {program}, which tests/page/install installs"))
}

/// Returns where the packages of npm are that are injected into the page.
pub(crate) fn axe() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/page/node_modules/axe-core/axe.min.js")
}

/// Returns whether they are missing.
pub(crate) fn axe_missing() -> Option<String> {
    (!axe().is_file()).then(|| "needs axe-core, which tests/page/install installs".to_owned())
}

/// A browser with one tab, closed when dropped.
pub(crate) struct Browser {
    address: SocketAddr,
    session: String,
    _driver: Running,
    _profile: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A test that failed shows its own problem; the driver ends in any case, and the browser with it.
        let _closed = self.send("DELETE", "", None);
    }
}

impl Browser {
    /// Starts a browser with an empty profile.
    pub(crate) fn start() -> Self {
        let profile = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("chromedriver");
        let child = command.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("chromedriver starts");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let driver = Running(child);
        let mut lines = stdout.lines().map_while(Result::ok);
        let started = lines.find_map(|line| {
            line.split("started successfully on port ").nth(1)?.trim_end_matches('.').parse().ok()
        });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, started.expect("it writes its port")));
        // It writes on, and must not wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1280,800",
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "pageLoadStrategy": "normal",
            "goog:chromeOptions": {"args": arguments, "binary": chromium()},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }}});
        let answer = exchange(address, "POST", "/session", Some(&capabilities));
        let session = answer.unwrap_or_else(|problem| panic!("no browser: {problem}"));
        let session = session["sessionId"].as_str().expect("a session has an id").to_owned();
        Self { address, session, _driver: driver, _profile: profile }
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        exchange(self.address, method, &format!("/session/{}{path}", self.session), body)
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.send("POST", path, Some(body)).unwrap_or_else(|problem| panic!("{path}: {problem}"))
    }

    /// Loads a page.
    pub(crate) fn go(&self, url: &str) {
        self.post("/url", &json!({"url": url}));
    }

    /// Goes back as the button does.
    pub(crate) fn back(&self) {
        self.post("/back", &json!({}));
    }

    /// Runs a script, the body of a function, and returns what it returns.
    pub(crate) fn run<T: DeserializeOwned>(&self, script: &str, arguments: &[Value]) -> T {
        let value = self.post("/execute/sync", &json!({"script": script, "args": arguments}));
        serde_json::from_value(value.clone()).unwrap_or_else(|problem| panic!("{value}: {problem}"))
    }

    /// Calls a command of the browser's protocol for developers.
    pub(crate) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// Presses keys one after the other.
    pub(crate) fn press(&self, keys: &str) {
        let actions = keys.chars().flat_map(|key| {
            let key = key.to_string();
            [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})]
        });
        let actions: Vec<_> = actions.collect();
        self.post("/actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}));
    }

    /// Clicks on the element that a selector finds.
    pub(crate) fn click(&self, selector: &str) {
        let found = self.post("/element", &json!({"using": "css selector", "value": selector}));
        let id = found.as_object().and_then(|element| element.values().next()?.as_str());
        let id = id.unwrap_or_else(|| panic!("no element in {found}"));
        self.post(&format!("/element/{id}/click"), &json!({}));
    }

    /// Waits until a script returns something other than `null` and `false`, and returns it.
    pub(crate) fn wait<T: DeserializeOwned>(&self, what: &str, script: &str, arguments: &[Value]) -> T {
        let deadline = Instant::now() + SOON;
        loop {
            let value: Value = self.run(script, arguments);
            if !matches!(value, Value::Null | Value::Bool(false)) {
                return serde_json::from_value(value.clone())
                    .unwrap_or_else(|problem| panic!("{value}: {problem}"));
            }
            assert!(Instant::now() < deadline, "not within {SOON:?}: {what}; the page: {}", self.text());
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until a script returns this value.
    pub(crate) fn wait_for(&self, what: &str, script: &str, expected: &Value) {
        let deadline = Instant::now() + SOON;
        loop {
            let value: Value = self.run(script, &[]);
            if value == *expected {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "not within {SOON:?}: {what}: {value}, not {expected}; the page: {}",
                self.text()
            );
            std::thread::sleep(PAUSE);
        }
    }

    /// Returns the text of the page.
    pub(crate) fn text(&self) -> String {
        self.run("return document.body.innerText.slice(0, 4000)", &[])
    }

    /// Returns the entries of a log since it was last read.
    fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.post("/se/log", &json!({"type": kind}));
        entries.as_array().cloned().unwrap_or_else(|| panic!("no log: {entries}"))
    }

    /// Returns what the console has of errors and warnings, refused requests and violations of the policy among them.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let entries = self.log("browser");
        let bad = entries.iter().filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING");
        bad.map(|entry| entry["message"].to_string()).collect()
    }

    /// Returns the URL of each request that was made since the last call.
    pub(crate) fn requests(&self) -> Vec<String> {
        let entries = self.log("performance");
        let requests = entries.iter().filter_map(|entry| {
            let text = entry["message"].as_str().expect("an entry has a message");
            let message: Value = serde_json::from_str(text).expect("it is JSON");
            let is_request = message["message"]["method"] == "Network.requestWillBeSent";
            is_request.then(|| message["message"]["params"]["request"]["url"].as_str().map(str::to_owned))?
        });
        requests.collect()
    }
}

/// Returns the path of Chromium.
fn chromium() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join("chromium"));
    found.find(|program| program.is_file()).expect("it is there, or no test of the page runs")
}

/// Sends a request to the driver, and returns the value of its answer.
fn exchange(address: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let answer = || -> std::io::Result<(String, Vec<u8>)> {
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut stream = BufReader::new(stream);
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let start = head.len();
            // The driver leaves the connection open, whatever it announces: the length is all there is.
            if stream.read_line(&mut head)? == 0 || head[start..].trim().is_empty() {
                break;
            }
            if let Some((name, value)) = head[start..].split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        Ok((head, body))
    };
    let (head, body) = answer().map_err(|error| format!("chromedriver does not answer: {error}"))?;
    let mut value: Value = serde_json::from_slice(&body).map_err(|error| format!("{error}: {head}"))?;
    let value = value["value"].take();
    match head.split(' ').nth(1) {
        Some("200") => Ok(value),
        _ => Err(format!("{}: {}", value["error"], value["message"])),
    }
}
