//! The `PromQL` expressions in the documents. Entry point: [`expressions`].

/// Returns the expressions of the `promql` blocks of a document. An expression starts at a line that is not indented; comments are
/// removed.
pub(crate) fn expressions(document: &str) -> Vec<String> {
    let mut expressions: Vec<String> = Vec::new();
    let mut inside = false;
    for line in document.lines() {
        if line.starts_with("```") {
            inside = line == "```promql";
            continue;
        }
        let code = line.split(" #").next().filter(|code| inside && !code.starts_with('#'));
        let Some(code) = code.map(str::trim_end).filter(|code| !code.is_empty()) else { continue };
        match expressions.last_mut() {
            Some(expression) if code.starts_with(' ') => {
                expression.push(' ');
                expression.push_str(code.trim_start());
            }
            _ => expressions.push(code.to_owned()),
        }
    }
    expressions
}
