//! HTML in the making: the only place where text becomes markup. Entry point: [`Html`].
//!
//! Names of tags and attributes are literals of the program. Text and values of attributes may be of any origin: they are escaped,
//! and characters that are invisible or change the direction of text are shown as escapes.

use crate::text::visible;

/// A document, up to where it is written.
pub(super) struct Html(String);

/// An attribute: its name, which is written as it is, and its value.
pub(super) type Attribute<'a> = (&'static str, &'a str);

impl Html {
    pub(super) fn new() -> Self {
        Self("<!DOCTYPE html>\n".to_owned())
    }

    /// Begins an element.
    pub(super) fn open(&mut self, tag: &'static str, attributes: &[Attribute<'_>]) {
        self.0.push('<');
        self.0.push_str(tag);
        for (name, value) in attributes {
            self.0.push(' ');
            self.0.push_str(name);
            self.0.push_str("=\"");
            self.escape(value);
            self.0.push('"');
        }
        self.0.push('>');
    }

    /// Ends an element.
    pub(super) fn close(&mut self, tag: &'static str) {
        self.0.push_str("</");
        self.0.push_str(tag);
        self.0.push('>');
    }

    /// Adds text.
    pub(super) fn text(&mut self, text: &str) {
        self.escape(text);
    }

    /// Adds an element with a text in it.
    pub(super) fn element(&mut self, tag: &'static str, attributes: &[Attribute<'_>], text: &str) {
        self.open(tag, attributes);
        self.escape(text);
        self.close(tag);
    }

    /// Adds a link.
    pub(super) fn link(&mut self, url: &str, text: &str) {
        self.element("a", &[("href", url)], text);
    }

    /// Ends a line.
    pub(super) fn line(&mut self) {
        self.0.push('\n');
    }

    pub(super) fn finish(self) -> String {
        self.0
    }

    fn escape(&mut self, text: &str) {
        for character in visible(text).chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                _ => self.0.push(character),
            }
        }
    }
}

/// Writes any text as text and as the value of an attribute: there is no markup but that of the program, and nothing invisible.
pub(super) fn fuzz(text: &str) {
    let mut html = Html::new();
    html.open("p", &[("title", text)]);
    html.text(text);
    html.close("p");
    let html = html.finish();
    let markup = html.strip_prefix("<!DOCTYPE html>\n<p title=\"").expect("it is the program's");
    let (value, rest) = markup.split_once("\">").expect("it is the program's");
    let text = rest.strip_suffix("</p>").expect("it is the program's");
    assert_eq!(value, text, "both are escaped alike");
    assert!(!text.contains(['<', '>', '"', '\'']) && !text.contains(crate::text::is_invisible), "{text:?}");
    let unknown = text
        .split('&')
        .skip(1)
        .find(|rest| !["amp;", "lt;", "gt;", "quot;", "#39;"].iter().any(|entity| rest.starts_with(entity)));
    assert_eq!(unknown, None);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_escaped_and_made_visible() {
        let mut html = Html::new();
        html.element("a", &[("href", "?key=a&b"), ("title", "\"><script>")], "<b>'\u{202e}\u{7}&amp;");
        let expected = "<!DOCTYPE html>\n<a href=\"?key=a&amp;b\" title=\"&quot;&gt;&lt;script&gt;\">\
                        &lt;b&gt;&#39;\\u{202e}\\x07&amp;amp;</a>";
        assert_eq!(html.finish(), expected);
    }

    proptest! {
        #[test]
        fn no_text_is_markup(text in "(\\PC|[<>&\"'/=a\\x00-\\x1f\u{200b}-\u{202e}]){0,64}") {
            fuzz(&text);
        }
    }
}
