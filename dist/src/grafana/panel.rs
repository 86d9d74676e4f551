//! Panels: numbers, graphs, and tables made of several queries. Entry points: [`Panel::stat`], [`Panel::graph`], [`Panel::table`].

use serde_json::{Map, Value, json};

use super::{COLUMNS, Unit, datasource};

/// Pixels of a column that is drawn as a bar.
const BAR_WIDTH: u32 = 180;

/// A value from which on a number is coloured, and why.
#[derive(Clone, Copy, Debug)]
pub struct Threshold {
    /// The first such value.
    pub from: f64,
    /// The colour.
    pub color: &'static str,
    /// Why from there, as the end of a sentence.
    pub reason: &'static str,
}

/// A query, and what its legend or column is called.
#[derive(Clone, Debug)]
pub struct Query {
    /// The expression.
    pub expression: String,
    /// Legend of its lines, with labels in double braces; or heading of its column.
    pub title: String,
    /// Unit of its column; in a graph, that of the panel.
    pub unit: Unit,
}

impl Query {
    /// Returns a query.
    pub fn new(title: impl Into<String>, unit: Unit, expression: impl Into<String>) -> Self {
        Self { expression: expression.into(), title: title.into(), unit }
    }
}

/// A label as a column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Name of the label.
    pub label: &'static str,
    /// Heading.
    pub title: &'static str,
    /// What a click opens.
    pub link: Option<Link>,
}

impl Column {
    /// Returns the pixels that it needs if that is known. The others share what is left.
    fn width(&self) -> Option<u32> {
        match self.label {
            "id" | "link_id" | "prog_id" | "map_id" => Some(100),
            "owner_kind" => Some(110),
            _ => None,
        }
    }
}

/// A link from a cell of a table.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Its words.
    pub title: &'static str,
    /// Identity of the dashboard.
    pub uid: &'static str,
    /// Variable of that dashboard which the value of the cell sets.
    pub variable: &'static str,
}

/// A panel.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Title.
    pub title: &'static str,
    /// What it shows, in one sentence.
    pub description: &'static str,
    /// Columns of the grid.
    pub width: u32,
    /// Rows of the grid.
    pub height: u32,
    /// Its queries.
    pub queries: Vec<Query>,
    /// Colours.
    pub thresholds: Vec<Threshold>,
    /// How it draws.
    pub kind: PanelKind,
}

/// How a panel draws.
#[derive(Clone, Debug)]
pub enum PanelKind {
    /// One number.
    Stat,
    /// Lines over time.
    Graph {
        /// Whether lines add up.
        stacked: bool,
    },
    /// A table: one row for each set of labels, one column for each query.
    Table {
        /// Labels, from left to right.
        columns: Vec<Column>,
        /// Columns to sort by, the largest value first where `true`.
        sort: Vec<(&'static str, bool)>,
        /// Queries that only bring labels: their values, always 1, are hidden.
        hidden: Vec<&'static str>,
        /// A column drawn as a bar, from 0 to 1.
        bar: Option<&'static str>,
    },
}

impl Panel {
    /// Returns a number.
    pub fn stat(
        title: &'static str,
        description: &'static str,
        unit: Unit,
        expression: impl Into<String>,
    ) -> Self {
        let queries = vec![Query::new(title, unit, expression)];
        Self {
            title,
            description,
            width: 3,
            height: 4,
            queries,
            thresholds: Vec::new(),
            kind: PanelKind::Stat,
        }
    }

    /// Returns lines over time.
    pub fn graph(
        title: &'static str,
        description: &'static str,
        unit: Unit,
        legend: &'static str,
        expression: impl Into<String>,
    ) -> Self {
        let queries = vec![Query::new(legend, unit, expression)];
        let kind = PanelKind::Graph { stacked: false };
        Self { title, description, width: 8, height: 8, queries, thresholds: Vec::new(), kind }
    }

    /// Returns a table.
    #[must_use]
    pub fn table(
        title: &'static str,
        description: &'static str,
        columns: &[Column],
        queries: Vec<Query>,
        sort: &[(&'static str, bool)],
    ) -> Self {
        let kind =
            PanelKind::Table { columns: columns.into(), sort: sort.into(), hidden: Vec::new(), bar: None };
        Self { title, description, width: COLUMNS, height: 10, queries, thresholds: Vec::new(), kind }
    }

    /// Returns a table of the labels of an expression, without its values.
    #[must_use]
    pub fn list(
        title: &'static str,
        description: &'static str,
        columns: &[Column],
        expression: String,
        sort: &[(&'static str, bool)],
    ) -> Self {
        const INFO: &str = "Info";
        Self::table(title, description, columns, vec![Query::new(INFO, Unit::Count, expression)], sort)
            .hide(INFO)
    }

    /// Sets the size.
    #[must_use]
    pub const fn size(mut self, width: u32, height: u32) -> Self {
        self.width = width;
        self.height = height;
        self
    }

    /// Adds a query.
    #[must_use]
    pub fn and(mut self, title: &'static str, expression: impl Into<String>) -> Self {
        let unit = self.queries[0].unit;
        self.queries.push(Query::new(title, unit, expression));
        self
    }

    /// Adds up the lines of a graph.
    #[must_use]
    pub fn stacked(mut self) -> Self {
        self.kind = PanelKind::Graph { stacked: true };
        self
    }

    /// Colours values.
    #[must_use]
    pub fn from(mut self, from: f64, color: &'static str, reason: &'static str) -> Self {
        self.thresholds.push(Threshold { from, color, reason });
        self
    }

    /// Hides the values of a query of a table, which only brings labels.
    #[must_use]
    pub fn hide(mut self, title: &'static str) -> Self {
        if let PanelKind::Table { hidden, .. } = &mut self.kind {
            hidden.push(title);
        }
        self
    }

    /// Draws a column of a table as a bar.
    #[must_use]
    pub fn bar(mut self, title: &'static str) -> Self {
        if let PanelKind::Table { bar, .. } = &mut self.kind {
            *bar = Some(title);
        }
        self
    }

    /// Returns the description, and the reasons of the colours.
    fn words(&self) -> String {
        let mut words = self.description.to_owned();
        for Threshold { color, reason, .. } in &self.thresholds {
            let mut letters = color.chars();
            let first = letters.next().map(|letter| letter.to_ascii_uppercase());
            words.push(' ');
            words.extend(first);
            words.push_str(letters.as_str());
            words.push_str(": ");
            words.push_str(reason);
            words.push('.');
        }
        words
    }

    /// Returns the panel at this place of the grid.
    pub(super) fn json(&self, id: u32, x: u32, y: u32) -> Value {
        let targets: Vec<Value> =
            self.queries.iter().zip(b'A'..).map(|(query, letter)| self.target(query, letter)).collect();
        let mut panel = json!({
            "id": id,
            "type": match self.kind {
                PanelKind::Stat => "stat",
                PanelKind::Graph { .. } => "timeseries",
                PanelKind::Table { .. } => "table",
            },
            "title": self.title,
            "description": self.words(),
            "datasource": datasource(),
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": targets,
            "fieldConfig": {"defaults": self.defaults(), "overrides": self.overrides()},
            "options": self.options(),
        });
        if let Some(transformations) = self.transformations() {
            panel["transformations"] = transformations;
        }
        panel
    }

    fn target(&self, query: &Query, letter: u8) -> Value {
        let mut target = json!({
            "refId": char::from(letter).to_string(),
            "datasource": datasource(),
            "editorMode": "code",
            "expr": query.expression,
        });
        match self.kind {
            PanelKind::Graph { .. } => {
                target["legendFormat"] = query.title.clone().into();
                target["range"] = true.into();
            }
            PanelKind::Stat => target["instant"] = true.into(),
            PanelKind::Table { .. } => {
                target["instant"] = true.into();
                target["format"] = "table".into();
            }
        }
        target
    }

    fn defaults(&self) -> Value {
        let mut steps =
            vec![json!({"color": if self.thresholds.is_empty() { "text" } else { "green" }, "value": null})];
        steps.extend(self.thresholds.iter().map(|step| json!({"color": step.color, "value": step.from})));
        let mut defaults = json!({"thresholds": {"mode": "absolute", "steps": steps}});
        match &self.kind {
            PanelKind::Stat => {
                let unit = self.queries[0].unit;
                defaults["unit"] = unit.id().into();
                defaults["color"] = json!({"mode": "thresholds"});
                if let Some(mappings) = unit.mappings() {
                    defaults["mappings"] = mappings;
                }
            }
            PanelKind::Graph { stacked } => {
                defaults["unit"] = self.queries[0].unit.id().into();
                defaults["min"] = 0.into();
                defaults["color"] = json!({"mode": "palette-classic"});
                let group = if *stacked { "normal" } else { "none" };
                let lines = if self.thresholds.is_empty() { "off" } else { "dashed" };
                defaults["custom"] = json!({
                    "drawStyle": "line",
                    "fillOpacity": if *stacked { 30 } else { 5 },
                    "showPoints": "never",
                    "stacking": {"group": "A", "mode": group},
                    "thresholdsStyle": {"mode": lines},
                });
            }
            // Grafana's own least width, 150, is more than most columns need.
            PanelKind::Table { .. } => defaults["custom"] = json!({"filterable": true, "minWidth": 100}),
        }
        defaults
    }

    fn overrides(&self) -> Value {
        let PanelKind::Table { columns, hidden, bar, .. } = &self.kind else { return json!([]) };
        let mut overrides = Vec::new();
        for query in self.queries.iter().filter(|query| !hidden.contains(&&*query.title)) {
            let mut properties = vec![json!({"id": "unit", "value": query.unit.id()})];
            properties.extend(query.unit.mappings().map(|value| json!({"id": "mappings", "value": value})));
            let is_bar = *bar == Some(&query.title);
            // The heading needs its space, too.
            let heading = u32::try_from(query.title.len()).unwrap_or_default() * 8 + 28;
            let width = if is_bar { BAR_WIDTH } else { query.unit.width().max(heading) };
            properties.push(json!({"id": "custom.width", "value": width}));
            if is_bar {
                properties.push(json!({"id": "min", "value": 0}));
                properties.push(json!({"id": "max", "value": 1}));
                properties
                    .push(json!({"id": "custom.cellOptions", "value": {"type": "gauge", "mode": "basic"}}));
            }
            overrides.push(by_name(&query.title, &properties));
        }
        // A table of one exporter has no such column.
        let instance = if columns.iter().any(|column| column.label == "instance") {
            r#"&var-instance=${__data.fields["Instance"]}"#
        } else {
            "&${instance:queryparam}"
        };
        for column in columns {
            let mut properties = Vec::new();
            if let Some(width) = column.width() {
                properties.push(json!({"id": "custom.width", "value": width}));
            }
            if let Some(Link { title, uid, variable }) = column.link {
                let instance = if variable == "instance" { "" } else { instance };
                // Grafana keeps the value of a text that a link does not name.
                let cleared = match variable {
                    "program" => "&var-map=",
                    "map" => "&var-program=",
                    _ => "",
                };
                let url = format!(
                    "/d/{uid}?${{datasource:queryparam}}&${{job:queryparam}}{instance}\
                     &var-{variable}=${{__value.raw}}{cleared}&${{__url_time_range}}"
                );
                properties.push(json!({"id": "links", "value": [{"title": title, "url": url}]}));
            }
            if !properties.is_empty() {
                overrides.push(by_name(column.title, &properties));
            }
        }
        overrides.into()
    }

    fn options(&self) -> Value {
        match &self.kind {
            PanelKind::Stat => json!({
                "colorMode": "value",
                "graphMode": "none",
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
            }),
            PanelKind::Graph { .. } => json!({
                "legend": {
                    "displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": ["lastNotNull", "max"],
                    "sortBy": "Last *", "sortDesc": true,
                },
                "tooltip": {"mode": "multi", "sort": "desc"},
            }),
            PanelKind::Table { sort, .. } => {
                let sort: Vec<Value> =
                    sort.iter().map(|(column, desc)| json!({"displayName": column, "desc": desc})).collect();
                json!({"showHeader": true, "cellHeight": "sm", "sortBy": sort})
            }
        }
    }

    /// Joins the results of the queries, names the columns and puts them in order.
    fn transformations(&self) -> Option<Value> {
        let PanelKind::Table { columns, hidden, .. } = &self.kind else { return None };
        let value = |letter: u8| match self.queries.len() {
            1 => "Value".to_owned(),
            _ => format!("Value #{}", char::from(letter)),
        };
        let mut names: Vec<String> = columns.iter().map(|column| column.label.to_owned()).collect();
        let mut titles: Vec<&str> = columns.iter().map(|column| column.title).collect();
        let mut excluded = Map::from_iter([("Time".to_owned(), Value::Bool(true))]);
        // These identify rows, and where they are no columns they are the same in all, or another column says the same.
        for label in ["job", "instance", "prog_id", "map_id", "type"]
            .into_iter()
            .filter(|label| columns.iter().all(|column| column.label != *label))
        {
            excluded.insert(label.to_owned(), true.into());
        }
        // Grafana leaves the letter out if only one of several queries yields something, most likely the first.
        if let [first, _, ..] = &*self.queries {
            if hidden.contains(&&*first.title) {
                excluded.insert("Value".to_owned(), true.into());
            } else {
                names.push("Value".to_owned());
                titles.push(&first.title);
            }
        }
        for (query, letter) in self.queries.iter().zip(b'A'..) {
            if hidden.contains(&&*query.title) {
                excluded.insert(value(letter), true.into());
            } else {
                names.push(value(letter));
                titles.push(&query.title);
            }
        }
        let order: Map<String, Value> =
            names.iter().cloned().zip((0..).map(|index: u32| index.into())).collect();
        let renamed: Map<String, Value> =
            names.iter().cloned().zip(titles.iter().map(|&title| title.into())).collect();
        let organize = json!({"excludeByName": excluded, "indexByName": order, "renameByName": renamed});
        let mut transformations = Vec::new();
        if self.queries.len() > 1 {
            transformations.push(json!({"id": "merge", "options": {}}));
        }
        transformations.push(json!({"id": "organize", "options": organize}));
        Some(transformations.into())
    }
}

fn by_name(name: &str, properties: &[Value]) -> Value {
    json!({"matcher": {"id": "byName", "options": name}, "properties": properties})
}
