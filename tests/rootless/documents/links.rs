//! Every link between files of the project resolves, its anchor included, and every file of `docs/` can be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The page from which all others are reached.
const START: &str = "docs/README.md";

/// Directories without pages of the project.
const SKIPPED: [&str; 2] = ["target", "node_modules"];

/// A page: its links and its anchors.
struct Page {
    links: Vec<String>,
    anchors: BTreeSet<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the files below a directory, by their paths below the project. Hidden ones are not the project's documents.
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("the directory is there") {
        let path = entry.expect("it can be listed").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("names are text");
        if name.starts_with('.') || SKIPPED.contains(&name) {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path.strip_prefix(root()).expect("it is below").to_owned());
        }
    }
}

fn pages() -> BTreeMap<PathBuf, Page> {
    let mut paths = Vec::new();
    files(root(), &mut paths);
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(root().join(&path)).expect("a page is text");
        let page = Page::parse(&text);
        (path, page)
    };
    paths.into_iter().map(read).collect()
}

impl Page {
    fn parse(text: &str) -> Self {
        let text = without_blocks(text);
        let mut seen = BTreeMap::<String, usize>::new();
        let headings = text.lines().filter_map(|line| {
            let title = line.trim_start_matches('#');
            let level = line.len() - title.len();
            ((1..=6).contains(&level) && title.starts_with(' ')).then(|| slug(title.trim()))
        });
        let anchors = headings.map(|slug| {
            let times = seen.entry(slug.clone()).or_default();
            *times += 1;
            if *times == 1 { slug } else { format!("{slug}-{}", *times - 1) }
        });
        let anchors = anchors.collect();
        Self { links: links(&without_code(&text)), anchors }
    }
}

/// Takes out blocks of code.
fn without_blocks(text: &str) -> String {
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Takes out code within lines. A span is on one line of a table, or in one paragraph.
fn without_code(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| {
        let blocks: Vec<&str> =
            if paragraph.contains("\n|") { paragraph.lines().collect() } else { vec![paragraph] };
        let kept = blocks.into_iter().map(|block| {
            let mut kept = String::new();
            let mut rest = block;
            while let Some(start) = rest.find('`') {
                let ticks = rest[start..].len() - rest[start..].trim_start_matches('`').len();
                let (fence, after) = rest[start..].split_at(ticks);
                kept.push_str(&rest[..start]);
                rest = after.split_once(fence).map_or(after, |(_, after)| after);
            }
            kept + rest
        });
        kept.collect::<Vec<_>>().join("\n")
    });
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// Returns the targets of links and images, and of references to them.
fn links(text: &str) -> Vec<String> {
    let inline = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let references = text.lines().filter_map(|line| {
        let (name, target) = line.strip_prefix('[')?.split_once("]: ")?;
        (!name.contains(']')).then(|| target.trim())
    });
    let attributes = ["href=\"", "src=\""].into_iter().flat_map(|attribute| {
        text.split(attribute).skip(1).filter_map(|rest| rest.split_once('"')).map(|(target, _)| target)
    });
    inline.chain(references).chain(attributes).map(ToOwned::to_owned).collect()
}

/// Returns the anchor that GitHub makes of a heading.
fn slug(title: &str) -> String {
    let mut text = String::new();
    let mut rest = title;
    // Of a link, its text.
    while let Some((before, after)) = rest.split_once("](") {
        text.push_str(before);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    let kept = text.chars().filter_map(|character| match character {
        ' ' => Some('-'),
        '-' | '_' => Some(character),
        _ if character.is_alphanumeric() => Some(character),
        _ => None,
    });
    kept.flat_map(char::to_lowercase).collect()
}

/// Returns the file that a link leads to, by its path below the project; `None` outside of it.
fn resolve(page: &Path, target: &str) -> Option<PathBuf> {
    let mut path = page.parent().expect("a page is in a directory").to_owned();
    for component in Path::new(target).components() {
        match component {
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

fn is_elsewhere(target: &str) -> bool {
    ["https://", "http://", "mailto:"].iter().any(|scheme| target.starts_with(scheme))
}

/// Returns what is wrong with a link; `None` if it resolves.
fn problem(pages: &BTreeMap<PathBuf, Page>, page: &Path, link: &str) -> Option<&'static str> {
    if is_elsewhere(link) {
        return link.contains(char::is_whitespace).then_some("has white space");
    }
    let (target, anchor) =
        link.split_once('#').map_or((link, None), |(target, anchor)| (target, Some(anchor)));
    let path = if target.is_empty() { Some(page.to_owned()) } else { resolve(page, target) };
    let Some(path) = path else { return Some("leads out of the project") };
    if !root().join(&path).exists() {
        return Some("does not exist");
    }
    let anchor = anchor?;
    let Some(page) = pages.get(&path) else { return Some("is no page that has anchors") };
    (!page.anchors.contains(anchor)).then_some("is an anchor that the page does not have")
}

#[test]
fn links_resolve() {
    let pages = pages();
    let links = pages.iter().flat_map(|(path, page)| page.links.iter().map(move |link| (path, link)));
    let (mut count, mut broken) = (0, Vec::new());
    for (path, link) in links {
        count += 1;
        if let Some(problem) = problem(&pages, path, link) {
            broken.push(format!("{}: ({link}) {problem}", path.display()));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(count > 200, "links were found: {count}");
}

#[test]
fn each_file_of_docs_can_be_reached() {
    let pages = pages();
    let mut reached = BTreeSet::new();
    let mut next = vec![PathBuf::from(START)];
    while let Some(path) = next.pop() {
        if !reached.insert(path.clone()) {
            continue;
        }
        let links = pages.get(&path).map_or(&[][..], |page| &page.links);
        for link in links.iter().filter(|link| !is_elsewhere(link)) {
            let target = link.split('#').next().unwrap_or_default();
            let Some(path) = resolve(&path, target).filter(|_| !target.is_empty()) else { continue };
            if root().join(&path).is_dir() {
                // What a directory has is listed where it is shown.
                let mut listed = Vec::new();
                files(&root().join(&path), &mut listed);
                next.extend(listed.into_iter().filter(|file| file.parent() == Some(&path)));
            } else {
                next.push(path);
            }
        }
    }
    let mut documents = Vec::new();
    files(&root().join("docs"), &mut documents);
    let lost: Vec<_> = documents.into_iter().filter(|path| !reached.contains(path)).collect();
    assert!(lost.is_empty(), "no link from {START} leads to {lost:?}");
}

#[test]
fn what_does_not_resolve_is_found() {
    let page = Page::parse(
        "# A `b` (c)\n\n## x\n## x\n\n```\n# no\n[no](no.md)\n```\n\n[one](b.md#x-1), `[no](no.md)` and [two\n\
         words](#gone) <img src=\"c.png\">\n\n[reference]: ../../up.md\n",
    );
    assert_eq!(page.links, ["b.md#x-1", "#gone", "../../up.md", "c.png"]);
    let anchors: Vec<&str> = page.anchors.iter().map(String::as_str).collect();
    assert_eq!(anchors, ["a-b-c", "x", "x-1"]);
    assert_eq!(slug("What the [program](a.md#b) does: `x_y`"), "what-the-program-does-x_y");
    let path = PathBuf::from(START);
    let pages = BTreeMap::from([(path.clone(), page)]);
    assert_eq!(problem(&pages, &path, "#x-1"), None);
    assert_eq!(problem(&pages, &path, "../docs/README.md#x-1"), None);
    assert_eq!(problem(&pages, &path, "#gone"), Some("is an anchor that the page does not have"));
    assert_eq!(problem(&pages, &path, "no-such-page.md"), Some("does not exist"));
    assert_eq!(problem(&pages, &path, "../../up.md"), Some("leads out of the project"));
    assert_eq!(problem(&pages, &path, "../Cargo.toml#x"), Some("is no page that has anchors"));
}
