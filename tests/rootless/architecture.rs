//! The rules of ARCHITECTURE.md that a compiler does not check: which module and which file may name which, and where `unsafe`
//! and waiting are allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each top-level module and those it may name. The binary wires, and may name all.
const ARROWS: [(&str, &[&str]); 23] = [
    ("model", &[]),
    ("cli", &["model", "kernel", "enrich", "lookup", "metrics", "export", "sandbox"]),
    ("ascending", &[]),
    ("backoff", &[]),
    ("outage", &[]),
    ("text", &[]),
    ("grpc_response", &[]),
    ("fuzzing", &["text", "baseline", "host", "kernel", "enrich", "lookup", "export", "web"]),
    ("error_chain", &["text"]),
    ("sys", &["model"]),
    ("host", &["model", "sys", "text"]),
    ("sandbox", &["model", "sys"]),
    ("kernel", &["model", "sys", "host", "ascending", "text"]),
    ("baseline", &["model", "text"]),
    ("events", &["model"]),
    ("enrich", &["model", "sys", "host", "kernel", "baseline", "events", "ascending", "text"]),
    ("lookup", &["enrich", "backoff", "outage", "error_chain", "grpc_response", "text", "worker"]),
    ("metrics", &["model"]),
    ("worker", &[]),
    ("source", &["model", "metrics", "worker"]),
    (
        "export",
        &[
            "model",
            "metrics",
            "source",
            "events",
            "worker",
            "backoff",
            "outage",
            "error_chain",
            "grpc_response",
            "text",
        ],
    ),
    ("tui", &["model", "metrics", "export", "text"]),
    ("web", &["model", "metrics", "source", "events", "export", "worker", "text"]),
];

/// The only names that `enrich` may use from the layers that call the kernel and read its tables.
const ENRICH_USES: [(&str, &[&str]); 2] = [
    ("kernel", &["Reader", "Choice", "NewestIds", "attachments", "events", "pins"]),
    ("sys", &["Error", "Result", "failed"]),
];

/// A module by its path from the root of the crate, which is empty for the root itself.
type Module = Vec<String>;

/// A path in the code, by its segments.
type NamePath = Vec<String>;

/// A source file of the library.
struct SourceFile {
    file: PathBuf,
    module: Module,
    /// Its code without comments, literals, and items that are compiled for tests only.
    code: String,
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Returns every source file below `src`.
fn files() -> Vec<PathBuf> {
    fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("src can be listed") {
            let path = entry.expect("src can be listed").path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    collect(&src(), &mut files);
    assert!(files.len() > 20, "the sources were found");
    files
}

/// Reads a source file without its comments and literals.
fn code(file: &Path) -> String {
    without_comments_and_literals(&fs::read_to_string(file).expect("a source file is text"))
}

/// Returns the source files of the library, but not those of the binary and of unit tests.
fn sources() -> Vec<SourceFile> {
    let mut sources: Vec<SourceFile> = Vec::new();
    let mut test_modules = BTreeSet::new();
    for file in files() {
        let path = file.strip_prefix(src()).expect("it is below src").with_extension("");
        let mut module: Module =
            path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        if matches!(&*module[0], "main" | "bin") {
            continue;
        }
        if module.last().is_some_and(|last| last == "mod") || module == ["lib"] {
            module.pop();
        }
        let (code, tests) = without_tests(&code(&file));
        test_modules.extend(tests.into_iter().map(|name| [&module[..], &[name]].concat()));
        sources.push(SourceFile { file, module, code });
    }
    sources.retain(|source| !test_modules.contains(&source.module));
    sources
}

/// Replaces comments, and what is inside of string and character literals, by nothing.
fn without_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let end_of =
            |from: usize, end: &str| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            end_of(2, "*/")
        } else if rest.starts_with("r#\"") {
            end_of(3, "\"#")
        } else if rest.starts_with("r\"") && !code.ends_with(is_name) {
            end_of(2, "\"")
        } else if next == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|character| {
                let is_end = character == '"' && !escaped;
                escaped = character == '\\' && !escaped;
                is_end
            });
            end.map_or(rest.len(), |at| at + 2)
        } else if rest.starts_with("'\\") {
            end_of(3, "'")
        } else if next == '\'' && rest.chars().nth(2) == Some('\'') {
            1 + rest[1..].chars().next().map_or(0, char::len_utf8) + 1
        } else {
            code.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[skip..];
    }
    code
}

/// Removes items marked `#[cfg(test)]`, and returns the names of the modules among them.
fn without_tests(code: &str) -> (String, Vec<String>) {
    const MARK: &str = "#[cfg(test)]";
    let (mut kept, mut modules, mut rest) = (String::new(), Vec::new(), code);
    while let Some((before, item)) = rest.split_once(MARK) {
        kept.push_str(before);
        let mut depth = 0_usize;
        let end = item.find(|character| {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth == 0 && matches!(character, '}' | ';')
        });
        let (item, after) = item.split_at(end.map_or(item.len(), |end| end + 1));
        if let Some((_, name)) = item.split_once("mod ") {
            modules.push(name.chars().take_while(|&character| is_name(character)).collect());
        }
        rest = after;
    }
    kept.push_str(rest);
    (kept, modules)
}

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// A name that a file imports or names by a path.
struct Use {
    path: NamePath,
    /// The name by which others can import it from here; `*` for all names. `None` for a path inside of an expression.
    name: Option<String>,
}

/// Returns the paths that code names: those of its `use` declarations, with nested ones written out, and those inside of
/// expressions and types. A path that begins with an imported name is returned with the path of the import instead of the name.
fn uses(code: &str) -> Vec<Use> {
    let written = written_uses(code);
    let whole = |of: &Use| {
        let name = of.name.clone();
        let paths = with_imports_resolved(&of.path, &written, 8);
        paths.into_iter().map(move |path| Use { path, name: name.clone() }).collect::<Vec<_>>()
    };
    written.iter().flat_map(whole).collect()
}

/// Replaces the first segment of a path by the path of the import of that name. There are several if functions of the same file
/// import different items by one name.
fn with_imports_resolved(path: &[String], uses: &[Use], depth: usize) -> Vec<NamePath> {
    let Some((first, rest)) = path.split_first().filter(|_| depth > 0) else { return vec![path.to_vec()] };
    // `use tokio;` imports a name by itself.
    let is_import = |of: &&Use| of.name.as_ref() == Some(first) && of.path.first() != Some(first);
    let replaced = uses.iter().filter(is_import).map(|of| [&of.path[..], rest].concat());
    let resolved: Vec<NamePath> =
        replaced.flat_map(|path| with_imports_resolved(&path, uses, depth - 1)).collect();
    if resolved.is_empty() { vec![path.to_vec()] } else { resolved }
}

/// Returns the paths in code as they are written there.
fn written_uses(code: &str) -> Vec<Use> {
    let mut uses = Vec::new();
    let mut rest = code;
    let mut previous = ' ';
    while let Some(at) = rest.find(is_name) {
        previous = rest[..at].chars().next_back().unwrap_or(previous);
        let word_end = rest[at..].find(|character| !is_name(character)).map_or(rest.len(), |end| at + end);
        let word = &rest[at..word_end];
        if word == "use"
            && rest[word_end..].starts_with(char::is_whitespace)
            && !matches!(previous, ':' | '.')
        {
            let end = rest[word_end..].find(';').map_or(rest.len(), |end| word_end + end);
            expand(&rest[word_end..end], &[], &mut uses);
            rest = &rest[end..];
        } else if previous != ':' && rest[word_end..].starts_with("::") {
            let end = rest[at..].find(|character| !is_name(character) && character != ':');
            let path = &rest[at..end.map_or(rest.len(), |end| at + end)];
            let segments =
                path.split("::").filter(|segment| !segment.is_empty()).map(str::to_owned).collect();
            uses.push(Use { path: segments, name: None });
            rest = &rest[at + path.len()..];
        } else {
            rest = &rest[word_end..];
        }
        previous = 'a';
    }
    uses
}

/// Writes out a tree of a `use` declaration.
fn expand(tree: &str, prefix: &[String], uses: &mut Vec<Use>) {
    let tree = tree.trim();
    if let Some((head, inner)) = tree.split_once('{') {
        let segments = head.split("::").map(str::trim).filter(|segment| !segment.is_empty());
        let prefix: NamePath = prefix.iter().cloned().chain(segments.map(str::to_owned)).collect();
        let inner = inner.rsplit_once('}').expect("a brace is closed").0;
        let mut depth = 0;
        let parts = inner.split(|character| {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth == 0 && character == ','
        });
        parts.filter(|part| !part.trim().is_empty()).for_each(|part| expand(part, &prefix, uses));
        return;
    }
    let (path, renamed) = tree.split_once(" as ").map_or((tree, None), |(path, name)| (path, Some(name)));
    let segments = path.split("::").map(str::trim).filter(|segment| !segment.is_empty()).map(str::to_owned);
    let mut path: NamePath = prefix.iter().cloned().chain(segments).collect();
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let name = renamed.map_or_else(|| path.last().cloned(), |name| Some(name.trim().to_owned()));
    uses.push(Use { path, name });
}

/// The files of the library by module, and what each names.
struct Tree {
    sources: BTreeMap<Module, (PathBuf, Vec<Use>)>,
}

impl Tree {
    fn new() -> Self {
        let sources = sources();
        let named = |source: SourceFile| (source.module, (source.file, uses(&source.code)));
        Self { sources: sources.into_iter().map(named).collect() }
    }

    /// Returns a path from the root of the crate; `None` for one that begins with another crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<NamePath> {
        let mut base = module.to_vec();
        let mut rest = path;
        match &*path.first()?.clone() {
            "crate" => {
                base.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            // A module declared in the same file.
            first => {
                let child = [module, &[first.to_owned()]].concat();
                if !self.sources.contains_key(&child) {
                    return None;
                }
            }
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    /// Returns the module whose file defines what an absolute path names, following names that other files re-export.
    fn definition(&self, path: &[String], depth: usize) -> Module {
        let (module, rest) = (0..=path.len())
            .rev()
            .find(|&len| self.sources.contains_key(&path[..len]))
            .map_or((&path[..0], path), |len| path.split_at(len));
        let Some(name) = rest.first().filter(|_| depth > 0) else { return module.to_vec() };
        let (_, uses) = &self.sources[module];
        let exported = uses.iter().filter(|exported| exported.name.as_ref() == Some(name));
        let targets = exported.filter_map(|exported| self.absolute(module, &exported.path));
        // A private import cannot be named from elsewhere, so the import of this name is a re-export.
        match targets.into_iter().find(|target| target != &[module, std::slice::from_ref(name)].concat()) {
            Some(target) => self.definition(&[&target[..], &rest[1..]].concat(), depth - 1),
            None => module.to_vec(),
        }
    }

    /// Returns the edges of the graph of files.
    ///
    /// An edge leads from a file to the file that defines an item it names. If a `mod.rs` only re-exports the item, that is the
    /// file that it re-exports it from. Test code does not count.
    fn edges(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let mut edges: BTreeMap<&Module, BTreeSet<Module>> = BTreeMap::new();
        for (module, (_, uses)) in &self.sources {
            let named = uses.iter().filter_map(|named| self.absolute(module, &named.path));
            let targets = named.map(|path| self.definition(&path, 8));
            edges.entry(module).or_default().extend(targets.filter(|target| target != module));
        }
        edges
    }
}

fn words(module: &[String]) -> String {
    if module.is_empty() { "crate".to_owned() } else { module.join("::") }
}

#[test]
fn imports_between_files_have_no_cycle() {
    fn visit<'a>(
        module: &'a Module,
        edges: &'a BTreeMap<&Module, BTreeSet<Module>>,
        path: &mut Vec<&'a Module>,
        done: &mut BTreeSet<&'a Module>,
        cycles: &mut BTreeSet<String>,
    ) {
        if let Some(start) = path.iter().position(|&earlier| earlier == module) {
            let cycle = path[start..].iter().chain([&module]).map(|module| words(module));
            cycles.insert(cycle.collect::<Vec<_>>().join(" -> "));
            return;
        }
        if done.contains(module) {
            return;
        }
        path.push(module);
        edges.get(module).into_iter().flatten().for_each(|next| visit(next, edges, path, done, cycles));
        path.pop();
        done.insert(module);
    }
    let tree = Tree::new();
    let mut edges = tree.edges();
    // Edges from a file to its own submodules do not count, since it composes them: an item of `mod.rs` may be named below it,
    // but a cycle through siblings or through other parts of the tree is found.
    for (module, targets) in &mut edges {
        targets.retain(|target| !target.starts_with(module));
    }
    assert!(edges.values().map(BTreeSet::len).sum::<usize>() > 100, "imports were found");
    let (mut done, mut cycles) = (BTreeSet::new(), BTreeSet::new());
    for &module in edges.keys() {
        visit(module, &edges, &mut Vec::new(), &mut done, &mut cycles);
    }
    assert!(cycles.is_empty(), "{cycles:#?}");
}

#[test]
fn modules_name_only_those_below_them() {
    let tree = Tree::new();
    for (module, (file, uses)) in &tree.sources {
        let Some(top) = module.first() else { continue };
        let (_, allowed) = ARROWS
            .iter()
            .find(|(name, _)| name == top)
            .unwrap_or_else(|| panic!("add the new module {top} to ARROWS"));
        for path in uses.iter().filter_map(|named| tree.absolute(module, &named.path)) {
            let Some(name) = path.first() else { continue };
            let fine = name == top || allowed.contains(&&**name);
            assert!(fine, "{} names {name}, which is not below {top}", file.display());
        }
    }
}

#[test]
fn backends_do_not_reach_each_other() {
    let tree = Tree::new();
    let edges = tree.edges();
    let root = ["kernel".to_owned()];
    let backend = |name: &str| [&root[..], &[name.to_owned()]].concat();
    for (from, to) in [("iter", "walk"), ("walk", "iter")].map(|(from, to)| (backend(from), backend(to))) {
        // Paths by which the files of a backend reach others of `kernel`, besides `kernel/mod.rs`, which composes the backends.
        let mut paths: Vec<Vec<&Module>> =
            edges.keys().filter(|module| module.starts_with(&from)).map(|&module| vec![module]).collect();
        assert!(paths.len() > 3, "the files of {} were found", words(&from));
        let mut reached: BTreeSet<&Module> = paths.iter().map(|path| path[0]).collect();
        while let Some(path) = paths.pop() {
            let module = path[path.len() - 1];
            let path_words = || path.iter().map(|module| words(module)).collect::<Vec<_>>().join(" -> ");
            assert!(!module.starts_with(&to), "{}", path_words());
            let next = edges.get(module).into_iter().flatten();
            let next = next.filter(|target| target.len() > root.len() && target.starts_with(&root));
            for target in next {
                if reached.insert(target) {
                    paths.push([&path[..], &[target]].concat());
                }
            }
        }
        assert!(reached.contains(&backend("reading")), "edges were followed");
    }
}

#[test]
fn enrich_uses_readers_attachments_pins_and_errors_only() {
    let tree = Tree::new();
    let enrich = |module: &Module| module.first().is_some_and(|top| top == "enrich");
    for (module, (file, uses)) in tree.sources.iter().filter(|(module, _)| enrich(module)) {
        for path in uses.iter().filter_map(|named| tree.absolute(module, &named.path)) {
            let Some(top) = path.first() else { continue };
            let Some((_, allowed)) = ENRICH_USES.iter().find(|(layer, _)| layer == top) else { continue };
            // The layer itself is not in the list: an import of it could be re-exported.
            let is_fine = path.get(1).is_some_and(|name| allowed.contains(&&**name));
            assert!(is_fine, "{} names {}", file.display(), words(&path));
        }
    }
}

#[test]
fn unsafe_code_is_below_sys_only() {
    for file in files().iter().filter(|file| !file.starts_with(src().join("sys"))) {
        let code = code(file);
        let mut words = code.split(|character| !is_name(character));
        assert!(words.all(|word| word != "unsafe"), "{} has unsafe code", file.display());
    }
}

#[test]
fn only_modules_that_use_the_network_wait() {
    const SYNCHRONOUS: [&str; 7] = ["model", "sys", "host", "kernel", "enrich", "metrics", "cli"];
    for SourceFile { file, module, code } in sources() {
        if module.first().is_some_and(|top| SYNCHRONOUS.contains(&&**top)) {
            let mut words = code.split(|character| !is_name(character));
            assert!(words.all(|word| word != "async" && word != "tokio"), "{} waits", file.display());
        }
    }
}

#[test]
fn code_is_told_from_comments_literals_and_tests() {
    let text = "use a::{b, c::{d as e, *}}; // use f::g;\nlet x = \"use h::i; \\\" \"; fn j<'k>() { crate::l::m('\\'', 'n') }\n\
                #[cfg(test)]\nmod tests { use o::p; { } }\n#[cfg(test)]\nmod q;\nfn r() { super::s; 0..t::u::<v::W>() }";
    let (code, modules) = without_tests(&without_comments_and_literals(text));
    assert_eq!(modules, ["tests", "q"]);
    let named: Vec<String> = uses(&code).into_iter().map(|named| named.path.join("::")).collect();
    assert_eq!(named, ["a::b", "a::c::d", "a::c::*", "crate::l::m", "super::s", "t::u", "v::W"]);
}

#[test]
fn imported_names_are_replaced_by_their_paths() {
    let paths =
        |code: &str| -> Vec<String> { uses(code).into_iter().map(|named| named.path.join("::")).collect() };
    let code = "use crate::kernel; fn a() { kernel::iter::load::B }";
    assert_eq!(paths(code), ["crate::kernel", "crate::kernel::iter::load::B"]);
    let code = "use super::super::{walk, sys as s}; fn a(_: &walk::B) { s::c() }";
    let imports = ["super::super::walk", "super::super::sys"];
    assert_eq!(paths(code), [imports, ["super::super::walk::B", "super::super::sys::c"]].concat());
    let code = "use crate::a; use a::b; use tokio; fn c() { b::d(); tokio::spawn() }";
    assert_eq!(paths(code), ["crate::a", "crate::a::b", "tokio", "crate::a::b::d", "tokio::spawn"]);
    let code = "fn a() { use b::D; D::X } fn c() { use c::D; }";
    assert_eq!(paths(code), ["b::D", "b::D::X", "c::D::X", "c::D"]);
}
