//! What the dashboards query, for those who check it. Entry point: [`of_dashboards`].

use std::collections::BTreeSet;

use serde_json::Value;

use crate::dashboards;

/// An expression of a dashboard.
#[derive(Clone, Debug)]
pub struct Query {
    /// Identity of the dashboard.
    pub dashboard: String,
    /// Title of the panel, or name of the variable.
    pub place: String,
    /// Letter of the query in its panel; `variable` of a variable.
    pub letter: String,
    /// The expression, with the variables of the dashboard.
    pub expression: String,
    /// Labels that a table shows or leaves out; `None` if it is no table.
    pub labels: Option<BTreeSet<String>>,
}

/// Returns the expressions of all dashboards. Those of variables with label values count the values of the label.
#[must_use]
pub fn of_dashboards() -> Vec<Query> {
    dashboards::files().iter().flat_map(|file| of_dashboard(&file.text)).collect()
}

/// What is selected in a dashboard; all values of the other variables are.
#[derive(Clone, Copy, Debug)]
pub struct Selected<'a> {
    /// Width of rates: `4m`.
    pub rate_interval: &'a str,
    /// What the dashboard shows: `10m`.
    pub range: &'a str,
    /// The same as a number of seconds.
    pub range_s: &'a str,
    /// Label `job`.
    pub job: &'a str,
    /// Label `instance`.
    pub instance: &'a str,
    /// Id of a program.
    pub program: &'a str,
    /// Id of a map.
    pub map: &'a str,
}

/// Returns an expression with values in the places of variables.
#[must_use]
pub fn substitute(expression: &str, selected: Selected<'_>) -> String {
    let Selected { rate_interval, range, range_s, job, instance, program, map } = selected;
    // A name that begins another one comes after it.
    let variables = [
        ("$__rate_interval", rate_interval),
        ("$__range_s", range_s),
        ("$__range", range),
        ("$job", job),
        ("$instance", instance),
        ("$owner", ".*"),
        ("$type_name", ".*"),
        ("$type", ".*"),
        ("$name", ".*"),
        ("$program", program),
        ("$map", map),
    ];
    variables.iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name, value))
}

fn of_dashboard(json: &str) -> Vec<Query> {
    let dashboard: Value = serde_json::from_str(json).expect("it is JSON");
    let uid = text(&dashboard["uid"]);
    let query = |place: &Value, letter: &str, expression: String, labels| Query {
        dashboard: uid.clone(),
        place: text(place),
        letter: letter.to_owned(),
        expression,
        labels,
    };
    let panels = dashboard["panels"].as_array().into_iter().flatten().flat_map(|panel| {
        let labels = (panel["type"] == "table").then(|| labels(panel));
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(move |target| {
            query(&panel["title"], &text(&target["refId"]), text(&target["expr"]), labels.clone())
        })
    });
    let variables = dashboard["templating"]["list"].as_array().into_iter().flatten().filter_map(|variable| {
        let call = variable["query"]["query"].as_str()?;
        let (function, inside) = call.split_once('(').expect("it is a call");
        let inside = inside.strip_suffix(')').expect("it is a call");
        let expression = match function {
            "label_values" => {
                let (selector, label) = inside.rsplit_once(", ").expect("the label is last");
                format!("count by ({label}) ({selector})")
            }
            _ => inside.to_owned(),
        };
        Some(query(&variable["name"], "variable", expression, None))
    });
    panels.chain(variables).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("it is text").to_owned()
}

/// Returns the labels that a table has as columns or leaves out.
fn labels(table: &Value) -> BTreeSet<String> {
    let organize = table["transformations"]
        .as_array()
        .and_then(|steps| steps.iter().find(|step| step["id"] == "organize"))
        .expect("tables name their columns");
    let names = ["indexByName", "excludeByName"]
        .map(|part| organize["options"][part].as_object().expect("it is there"));
    names.into_iter().flat_map(|part| part.keys().cloned()).collect()
}
