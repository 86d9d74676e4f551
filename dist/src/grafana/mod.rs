//! Dashboards of Grafana, as far as these need them: variables, panels in rows, tables made of several queries.
//! Entry point: [`Dashboard`]. The JSON is what Grafana 11 and later import and provision.

mod panel;
mod unit;

use serde_json::{Value, json};

pub use self::panel::{Column, Link, Panel, PanelKind, Query, Threshold};
pub use self::unit::Unit;
use crate::names::Metric;

/// Version of Grafana's schema of dashboards. Grafana migrates older ones when it loads them.
const SCHEMA_VERSION: u32 = 41;

/// Columns of Grafana's grid.
const COLUMNS: u32 = 24;

/// The data source that a panel or variable queries: the one that the variable `datasource` selects.
fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// A dashboard.
#[derive(Clone, Debug)]
pub struct Dashboard {
    /// Identity in links and files.
    pub uid: &'static str,
    /// Title.
    pub title: &'static str,
    /// What it shows, in one sentence.
    pub description: &'static str,
    /// Time between two refreshes.
    pub refresh: &'static str,
    /// Variables after `datasource` and `job`.
    pub variables: Vec<Variable>,
    /// Panels, in rows.
    pub rows: Vec<Row>,
}

/// Panels below a heading.
#[derive(Clone, Debug)]
pub struct Row {
    /// The heading.
    pub title: &'static str,
    /// Its panels, from left to right.
    pub panels: Vec<Panel>,
}

/// A variable.
#[derive(Clone, Debug)]
pub enum Variable {
    /// The values of a label.
    Label {
        /// Name of the variable and of the label.
        name: &'static str,
        /// Words before it.
        label: &'static str,
        /// Selector of the series.
        selector: String,
    },
    /// Exporters, by the names of their nodes.
    Node {
        /// Expression of series with the labels `instance` and `node`.
        nodes: String,
    },
    /// A text to type.
    Text {
        /// Its name.
        name: &'static str,
        /// Words before it.
        label: &'static str,
        /// The text at first.
        value: &'static str,
    },
}

impl Variable {
    fn json(&self) -> Value {
        let query = |name: &str, label: &str, query: String, several: bool| {
            let mut variable = json!({
                "name": name,
                "label": label,
                "type": "query",
                "datasource": datasource(),
                "query": {"query": query, "refId": name},
                // Also when the time range changes: exporters come and go.
                "refresh": 2,
                "sort": 5,
                "multi": several,
                "includeAll": several,
            });
            if several {
                // Also what does not have the label.
                variable["allValue"] = ".*".into();
                variable["current"] = json!({"text": ["All"], "value": ["$__all"]});
            }
            variable
        };
        match self {
            Self::Label { name, label, selector } => {
                query(name, label, format!("label_values({selector}, {name})"), true)
            }
            Self::Node { nodes } => {
                let mut variable = query("instance", "Node", format!("query_result({nodes})"), false);
                // Applied to `{instance="…",job="…",node="…"} 1 1700000000000`, whose labels may come in any order.
                let regex = r#"/(?=.*[{,]instance="(?<value>[^"]*)").*[{,]node="(?<text>[^"]*)"/"#;
                variable["regex"] = regex.into();
                variable
            }
            Self::Text { name, label, value } => json!({
                "name": name,
                "label": label,
                "type": "textbox",
                "query": value,
                "current": {"text": value, "value": value},
            }),
        }
    }
}

impl Dashboard {
    /// Returns the dashboard as Grafana imports it.
    #[must_use]
    pub fn json(&self, jobs: Metric) -> Value {
        let mut variables = vec![
            json!({"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "regex": ""}),
            Variable::Label { name: "job", label: "Job", selector: jobs.to_string() }.json(),
        ];
        variables.extend(self.variables.iter().map(Variable::json));
        json!({
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["ebpf"],
            "schemaVersion": SCHEMA_VERSION,
            "editable": true,
            "graphTooltip": 1,
            "time": {"from": "now-1h", "to": "now"},
            "timezone": "browser",
            "refresh": self.refresh,
            "links": [{
                "type": "dashboards", "title": "eBPF", "tags": ["ebpf"], "asDropdown": false, "icon": "external link",
                "includeVars": true, "keepTime": true, "targetBlank": false, "tooltip": "", "url": "",
            }],
            "templating": {"list": variables},
            "annotations": {"list": []},
            "panels": self.panels(),
        })
    }

    /// Returns headings and panels, placed from left to right and from top to bottom.
    fn panels(&self) -> Vec<Value> {
        let mut panels = Vec::new();
        let mut y = 0;
        let mut ids = 1..;
        let mut id = || ids.next().expect("a range without end has a next number");
        for row in &self.rows {
            panels.push(json!({
                "id": id(), "type": "row", "title": row.title, "collapsed": false, "panels": [],
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            }));
            y += 1;
            let (mut x, mut tallest) = (0, 0);
            for panel in &row.panels {
                if x + panel.width > COLUMNS {
                    y += tallest;
                    (x, tallest) = (0, 0);
                }
                panels.push(panel.json(id(), x, y));
                x += panel.width;
                tallest = tallest.max(panel.height);
            }
            y += tallest;
        }
        panels
    }
}
