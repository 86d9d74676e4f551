//! The query of a URL, as browsers and curl write it. Entry point: [`pairs`].

use percent_encoding::percent_decode_str;

/// Returns the names and values in a query, decoded. A name without `=` has an empty value.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// Returns what of a value is repeated in a message.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}
