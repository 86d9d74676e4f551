//! The texts of the program's source: string literals outside of tests and comments, and the calls that they are in.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A file of the source.
pub(super) struct Source {
    /// Its path below the project.
    name: String,
    /// Its code without comments, and with the number of its text in place of each literal: `warn!("7")`.
    code: String,
    texts: Vec<Text>,
}

/// A string literal, with the line breaks and characters that its escapes stand for.
#[derive(Clone, Debug)]
pub(super) struct Text(String);

impl Text {
    pub(super) fn raw(&self) -> &str {
        &self.0
    }

    /// Returns the text as a reader sees it, on one line, with an ellipsis for each value that is filled in.
    pub(super) fn template(&self) -> String {
        let mut template = String::new();
        let mut rest = self.0.as_str();
        while let Some(at) = rest.find(['{', '}']) {
            template.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            if rest[at + 1..].starts_with(brace) {
                template.push_str(brace);
                rest = &rest[at + 2..];
            } else {
                if !template.ends_with('…') {
                    template.push('…');
                }
                rest = rest[at..].split_once('}').map_or("", |(_, after)| after);
            }
        }
        template.push_str(rest);
        template.replace('\n', " ").trim().to_owned()
    }
}

/// Returns the number of words of at least two letters.
pub(super) fn words(text: &str) -> usize {
    text.split(|character: char| !character.is_ascii_alphabetic()).filter(|word| word.len() >= 2).count()
}

impl Source {
    /// Reads every file of the source but those that are only for tests.
    pub(super) fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = Vec::new();
        collect(&root.join("src"), &mut files);
        files.sort();
        let sources: Vec<Self> = files.iter().map(|file| Self::read(root, file)).collect();
        assert!(sources.len() > 100, "the source was found");
        sources
    }

    fn read(root: &Path, path: &Path) -> Self {
        let name = path.strip_prefix(root).expect("it is below").display().to_string();
        let file = std::fs::read_to_string(path).expect("source is text");
        let end = file.find("#[cfg(test)]\nmod tests {").unwrap_or(file.len());
        let (code, texts) = lex(&file[..end]);
        Self { name, code, texts }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns every text that is no reason of a panic or of a lint.
    pub(super) fn texts(&self) -> impl Iterator<Item = &Text> {
        self.texts.iter().enumerate().filter(|(number, _)| !self.is_reason(*number)).map(|(_, text)| text)
    }

    fn is_reason(&self, number: usize) -> bool {
        let at = self.code.find(&format!("\"{number}\"")).expect("each text is in the code");
        let before = self.code[..at].trim_end();
        [".expect(", ".expect_err(", "reason =", "debug!(", "info!(", "unreachable!(", "panic!("]
            .iter()
            .any(|end| before.ends_with(end))
    }

    /// Returns the arguments of each call of a macro or a function.
    pub(super) fn calls<'a>(&'a self, call: &'a str) -> impl Iterator<Item = &'a str> {
        self.code.match_indices(call).filter_map(move |(at, _)| {
            let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
            let is_whole = !(call.starts_with(is_name) && self.code[..at].ends_with(is_name));
            is_whole.then(|| enclosed(&self.code[at + call.len()..], '(', ')'))
        })
    }

    /// Returns the first text of these arguments, and what follows it.
    pub(super) fn first_text(&self, arguments: &str) -> Option<(&Text, String)> {
        let mut parts = arguments.splitn(3, '"').skip(1);
        let text = self.texts.get(parts.next()?.parse::<usize>().ok()?)?;
        let rest = parts.next()?.split_whitespace().collect::<Vec<_>>().join(" ");
        Some((text, rest))
    }

    /// Returns the texts within a function.
    pub(super) fn texts_of_function(&self, name: &str) -> Vec<&Text> {
        let Some((_, rest)) = self.code.split_once(&format!("fn {name}")) else { return Vec::new() };
        let Some((_, body)) = rest.split_once('{') else { return Vec::new() };
        let numbers = enclosed(body, '{', '}').split('"').skip(1).step_by(2);
        let numbers = numbers.map(|number| number.parse::<usize>().expect("it was made by the lexer"));
        numbers.filter(|number| !self.is_reason(*number)).map(|number| &self.texts[number]).collect()
    }
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("the directory is there") {
        let path = entry.expect("it can be listed").path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("names are text").to_owned();
        if path.is_dir() && stem != "tests" && stem != "ui" {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !["tests", "fuzzing", "example"].contains(&&*stem)
        {
            files.push(path);
        }
    }
}

/// Returns the text up to the bracket that closes one that was opened before.
fn enclosed(text: &str, open: char, close: char) -> &str {
    let mut depth = 1_usize;
    for (at, character) in text.char_indices() {
        depth = if character == open {
            depth + 1
        } else if character == close {
            depth - 1
        } else {
            depth
        };
        if depth == 0 {
            return &text[..at];
        }
    }
    panic!("a bracket is not closed: {}", text.lines().next().unwrap_or_default());
}

/// Takes the comments out of code, and the literals, for which their numbers stay.
fn lex(file: &str) -> (String, Vec<Text>) {
    let (mut code, mut texts) = (String::new(), Vec::new());
    let mut rest = file;
    while let Some(first) = rest.chars().next() {
        let after = if rest.starts_with("//") {
            rest.find('\n').map_or("", |end| &rest[end..])
        } else if first == '"' {
            let (text, after) = literal(&rest[1..]);
            let _infallible = write!(code, "\"{}\"", texts.len());
            texts.push(Text(text));
            after
        } else if let Some(after) = character(rest) {
            code.push_str("' '");
            after
        } else {
            code.push(first);
            &rest[first.len_utf8()..]
        };
        rest = after;
    }
    (code, texts)
}

/// Returns the rest after a literal of one character, or `None` if there is none: a lifetime has one quote.
fn character(code: &str) -> Option<&str> {
    let rest = code.strip_prefix('\'')?;
    match rest.strip_prefix('\\') {
        Some(escaped) => {
            // The escaped character may be a quote.
            let end = 1 + escaped[1..].find('\'')?;
            Some(&escaped[end + 1..])
        }
        None => rest.chars().next().and_then(|one| rest[one.len_utf8()..].strip_prefix('\'')),
    }
}

/// Returns the content of a literal after its opening quote, and the rest.
fn literal(code: &str) -> (String, &str) {
    let (mut text, mut rest) = (String::new(), code);
    loop {
        let at = rest.find(['"', '\\']).expect("the literal ends");
        text.push_str(&rest[..at]);
        if rest[at..].starts_with('"') {
            return (text, &rest[at + 1..]);
        }
        let escaped = &rest[at + 1..];
        rest = match escaped.chars().next().expect("a backslash is followed") {
            '\n' => escaped.trim_start(),
            'n' => {
                text.push('\n');
                &escaped[1..]
            }
            't' => {
                text.push('\t');
                &escaped[1..]
            }
            other => {
                text.push(other);
                &escaped[other.len_utf8()..]
            }
        };
    }
}

#[test]
fn texts_and_calls_are_found() {
    let (code, texts) = lex(
        "// warn!(\"no\")\nwarn!(\n    target: X,\n    \"{a} is \\\"b\\\", \\\n     {{c}}\", a(')'), // d\n);\n",
    );
    let source = Source { name: String::new(), code, texts };
    let arguments = source.calls("warn!(").next().expect("there is a call");
    let (text, rest) = source.first_text(arguments).expect("it has a text");
    assert_eq!((text.template(), rest.as_str()), ("… is \"b\", {c}".to_owned(), ", a(' '),"));
    assert_eq!(words("… is none of …"), 3);
}
