//! YAML as text: the files are read by people, with comments.

/// Lines of a YAML file.
#[derive(Debug, Default)]
pub(super) struct Lines(String);

/// Widest line of a comment.
const WIDTH: usize = 120;

impl Lines {
    /// Adds a line, indented by this number of characters.
    pub(super) fn add(&mut self, indent: usize, line: &str) {
        if !line.is_empty() {
            self.0.extend(std::iter::repeat_n(' ', indent));
            self.0.push_str(line);
        }
        self.0.push('\n');
    }

    /// Adds a comment, in as many lines as it needs; none if it is empty.
    pub(super) fn comment(&mut self, indent: usize, text: &str) {
        let mut line = String::new();
        for word in text.split_whitespace() {
            if !line.is_empty() && indent + line.len() + 1 + word.len() > WIDTH {
                self.add(indent, &line);
                line.clear();
            }
            line.push_str(if line.is_empty() { "# " } else { " " });
            line.push_str(word);
        }
        if !line.is_empty() {
            self.add(indent, &line);
        }
    }

    /// Adds the lines of a text.
    pub(super) fn block(&mut self, indent: usize, text: &str) {
        for line in text.lines() {
            self.add(indent, line);
        }
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// Quotes a string: unquoted, some would be numbers or booleans.
pub(super) fn quoted(text: &str) -> String {
    // A string of JSON is one of YAML.
    serde_json::Value::from(text).to_string()
}
