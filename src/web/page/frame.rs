//! What every page has around its content: head, tabs and footer. Entry points: [`Frame::page`] and [`landing`].

use super::assets::{self, Asset};
use super::html::Html;
use crate::export::json::SCHEMA_VERSION;
use crate::metrics::columns::TableKind;
use crate::model::{Exporter, Snapshot};
use crate::web::bounds;
use crate::web::live::View;

/// What every page says of the exporter.
pub(super) struct Frame<'a> {
    pub(super) exporter: &'a Exporter,
    pub(super) telemetry_path: &'a str,
}

impl Frame<'_> {
    /// Returns the name of the host, as the resource has it.
    fn host(&self) -> &str {
        let attribute = |name| self.exporter.resource.iter().find(|(key, _)| key == name);
        let found = attribute("k8s.node.name").or_else(|| attribute("host.name"));
        found.map_or("", |(_, value)| value)
    }

    /// Writes a page whose content is written by `content`. `tab` is what is shown; `key` the object.
    pub(super) fn page(
        &self,
        view: &View,
        tab: &str,
        key: Option<&str>,
        heading: &str,
        content: impl FnOnce(&mut Html),
    ) -> String {
        let host = self.host();
        let version = self.exporter.build.version;
        let mut html = Html::new();
        html.open("html", &[("lang", "en")]);
        html.line();
        html.open("head", &[]);
        head(&mut html, &titled(heading, host));
        html.open("link", &[("rel", "icon"), ("href", assets::url(Asset::Icon)), ("type", "image/svg+xml")]);
        html.open("link", &[("rel", "stylesheet"), ("href", assets::url(Asset::Style))]);
        html.element("script", &[("src", assets::url(Asset::Script)), ("type", "module")], "");
        html.close("head");
        html.line();
        let schema = SCHEMA_VERSION.to_string();
        let poll = bounds::PAGE_POLL.as_secs().to_string();
        let mut attributes = vec![
            ("data-tab", tab),
            ("data-schema", &schema),
            ("data-version", version),
            ("data-host", host),
            ("data-poll", &poll),
        ];
        attributes.extend(key.map(|key| ("data-key", key)));
        html.open("body", &attributes);
        html.element("a", &[("class", "skip"), ("href", "#content")], "Skip to content");
        html.line();
        html.open("header", &[]);
        html.open("p", &[("class", "title")]);
        html.link("./", "bpf-metrics-exporter");
        html.text(" ");
        html.element("span", &[("class", "host")], host);
        html.close("p");
        tabs(&mut html, view, tab);
        html.close("header");
        html.line();
        html.open("main", &[("id", "content"), ("tabindex", "-1")]);
        html.line();
        html.element("h1", &[], heading);
        html.line();
        content(&mut html);
        html.close("main");
        html.line();
        self.footer(&mut html, true);
        html.close("body");
        html.line();
        html.close("html");
        html.line();
        html.finish()
    }

    /// Writes what else there is.
    fn footer(&self, html: &mut Html, with_api: bool) {
        html.open("footer", &[("id", "about")]);
        html.open("p", &[]);
        html.text(&format!("Version {}. ", self.exporter.build.version));
        // Relative, as a proxy may have the page below a path of its own.
        html.link(&format!(".{}", self.telemetry_path), "Metrics");
        html.text(", ");
        if with_api {
            for kind in TableKind::ALL {
                html.link(
                    &format!("api/v1/objects?kind={}", kind.as_str()),
                    &format!("{} as JSON", kind.title()),
                );
                html.text(", ");
            }
            html.link("api/v1/snapshot", "the snapshot");
            html.text(", ");
        }
        html.link("api/v1/events", "events as they happen");
        html.text(", ");
        html.link("-/healthy", "health");
        html.text(", ");
        html.link("-/ready", "readiness");
        html.close("p");
        html.close("footer");
        html.line();
    }
}

fn titled(heading: &str, host: &str) -> String {
    if host.is_empty() {
        format!("{heading} - bpf-metrics-exporter")
    } else {
        format!("{heading} - bpf-metrics-exporter on {host}")
    }
}

fn head(html: &mut Html, title: &str) {
    html.open("meta", &[("charset", "utf-8")]);
    html.open("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
    html.open("meta", &[("name", "color-scheme"), ("content", "light dark")]);
    html.line();
    html.element("title", &[], title);
    html.line();
}

/// Writes the links to all tables.
fn tabs(html: &mut Html, view: &View, current: &str) {
    html.open("nav", &[("id", "tabs"), ("aria-label", "Tables")]);
    html.open("ul", &[]);
    let counts: Vec<_> = view.counts().collect();
    let tables = TableKind::ALL.into_iter().map(|kind| {
        let count = counts.iter().find(|(counted, _)| *counted == kind).map(|(_, count)| *count);
        (kind.as_str(), kind.title(), count)
    });
    for (word, title, count) in tables.chain([("events", "Events", None), ("exporter", "Exporter", None)]) {
        let url = format!("?tab={word}");
        let mut attributes = vec![("href", &*url), ("data-tab", word)];
        attributes.extend((word == current).then_some(("aria-current", "page")));
        html.open("li", &[]);
        html.open("a", &attributes);
        html.text(title);
        if let Some(count) = count {
            html.text(" ");
            html.element("span", &[("class", "count")], &count.to_string());
        }
        html.close("a");
        html.close("li");
        html.line();
    }
    html.close("ul");
    html.close("nav");
}

/// Returns the page where the real one is turned off: what else there is, and how many objects.
pub(super) fn landing(frame: &Frame<'_>, snapshot: &Snapshot) -> String {
    let mut html = Html::new();
    html.open("html", &[("lang", "en")]);
    html.open("head", &[]);
    head(&mut html, &titled("eBPF of this host", frame.host()));
    html.close("head");
    html.open("body", &[]);
    html.element("h1", &[], "bpf-metrics-exporter");
    html.element("p", &[], "Objects on this host:");
    html.open("ul", &[]);
    for total in &snapshot.totals {
        html.element("li", &[], &format!("{}: {}", total.kind.as_str(), total.objects));
    }
    html.close("ul");
    frame.footer(&mut html, false);
    html.close("body");
    html.close("html");
    html.line();
    html.finish()
}
