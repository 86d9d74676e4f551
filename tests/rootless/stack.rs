//! The stack to try the program out: `metrics-stack.yaml` and `compose.yaml` say the same, and what the files say of each other holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use dist::stack::services::{DASHBOARDS, RULES};
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Most bytes of a `ConfigMap`, by the API server of Kubernetes.
const CONFIG_MAP_BYTES: usize = 1 << 20;

/// What a file says of a container.
#[derive(Debug, Default, PartialEq, Eq)]
struct Container {
    image: String,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    /// Address on the host, port there, port in the container.
    ports: BTreeSet<(String, u64, u64)>,
    /// Contents, by path in the container. They cannot be written there.
    files: BTreeMap<String, String>,
    restart: String,
}

type Containers = BTreeMap<String, Container>;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn parse(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a string")).to_owned()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn entries(value: &Value) -> impl Iterator<Item = (String, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a number"))
}

/// Returns the objects of `metrics-stack.yaml` of this kind, by name.
fn objects(kind: &str) -> BTreeMap<String, Value> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(&read("metrics-stack.yaml")).expect("it is YAML");
    let of_kind = objects.into_iter().filter(|object| object["kind"] == kind);
    of_kind.map(|object| (text(&object["metadata"]["name"]), object)).collect()
}

/// Returns the one pod, with its name.
fn pod() -> (String, Value) {
    let mut pods = objects("Pod").into_iter();
    let pod = pods.next().expect("there is one");
    assert_eq!(pods.next(), None);
    pod
}

fn of_kube() -> Containers {
    let (_, pod) = pod();
    let config_maps = objects("ConfigMap");
    let files = |mount: &Value| -> Vec<(String, String)> {
        assert_eq!(mount["readOnly"], true);
        let volume = items(&pod["spec"]["volumes"]).find(|volume| volume["name"] == mount["name"]);
        let name = text(&volume.expect("the volume is there")["configMap"]["name"]);
        let files = entries(&config_maps[&name]["data"]);
        files
            .map(|(file, content)| (format!("{}/{file}", text(&mount["mountPath"])), text(content)))
            .collect()
    };
    let containers = items(&pod["spec"]["containers"]).map(|container| {
        let environment = items(&container["env"]);
        let ports = items(&container["ports"]);
        let read = Container {
            image: text(&container["image"]),
            arguments: items(&container["args"]).map(text).collect(),
            environment: environment.map(|each| (text(&each["name"]), text(&each["value"]))).collect(),
            ports: ports
                .map(|port| {
                    (text(&port["hostIP"]), number(&port["hostPort"]), number(&port["containerPort"]))
                })
                .collect(),
            files: items(&container["volumeMounts"]).flat_map(files).collect(),
            restart: match text(&pod["spec"]["restartPolicy"]).as_str() {
                "OnFailure" => "on-failure".to_owned(),
                other => panic!("{other} has no counterpart here"),
            },
        };
        (text(&container["name"]), read)
    });
    containers.collect()
}

fn of_compose() -> Containers {
    let compose = parse(&read("compose.yaml"));
    let port = |value: &Value| {
        let port = text(value);
        let parts: Vec<&str> = port.split(':').collect();
        let [address, host, container] = parts[..] else { panic!("{port}") };
        let number = |text: &str| text.parse().expect("a port is a number");
        (address.to_owned(), number(host), number(container))
    };
    let file = |value: &Value| {
        let mount = text(value);
        let parts: Vec<&str> = mount.split(':').collect();
        let [path, target, "ro"] = parts[..] else { panic!("{mount}") };
        (target.to_owned(), read(path))
    };
    let containers = entries(&compose["services"]).map(|(name, service)| {
        let read = Container {
            image: text(&service["image"]),
            arguments: items(&service["command"]).map(text).collect(),
            environment: entries(&service["environment"]).map(|(name, value)| (name, text(value))).collect(),
            ports: items(&service["ports"]).map(port).collect(),
            files: items(&service["volumes"]).map(file).collect(),
            restart: text(&service["restart"]),
        };
        (name, read)
    });
    containers.collect()
}

#[test]
fn podman_and_docker_run_the_same() {
    let containers = of_kube();
    assert_eq!(containers.len(), 3);
    assert_eq!(containers, of_compose());
    // By these names the services find each other.
    let (_, pod) = pod();
    let aliases: Vec<&Value> = items(&pod["spec"]["hostAliases"]).collect();
    let [alias] = aliases[..] else { panic!("{aliases:?}") };
    assert_eq!(alias["ip"], "127.0.0.1");
    let names: BTreeSet<String> = items(&alias["hostnames"]).map(text).collect();
    assert_eq!(names, containers.into_keys().collect());
    // Neither Compose nor Kubernetes has anything to substitute.
    let pod = read("metrics-stack.yaml");
    let (pod, _) = pod.split_once("\n---\n").expect("the pod comes first");
    for text in [pod, &read("compose.yaml")] {
        assert!(!text.contains('$'), "{text}");
    }
}

#[test]
fn images_are_fully_qualified_and_pinned() {
    for (name, container) in of_kube() {
        let (repository, tag) = container.image.rsplit_once(':').expect("it has a tag");
        let parts: Vec<&str> = repository.split('/').collect();
        assert!(parts.len() == 3 && parts[0].contains('.'), "{name}: {repository}");
        let version: Vec<&str> = tag.trim_start_matches('v').split('.').collect();
        assert!(
            version.len() == 3 && version.iter().all(|part| part.parse::<u32>().is_ok()),
            "{name}: {tag}"
        );
    }
}

#[test]
fn ports_are_open_to_the_host_only() {
    let ports: BTreeSet<_> = of_kube().into_values().flat_map(|container| container.ports).collect();
    let expected = [3000, 4317, 4318, 9090].map(|port| ("127.0.0.1".to_owned(), port, port));
    assert_eq!(ports, BTreeSet::from(expected));
}

/// Podman builds an image if the working directory has an entry of its name.
#[test]
fn nothing_is_named_like_an_entry_of_the_root() {
    let (pod, _) = pod();
    let mut names = BTreeSet::from([pod.clone()]);
    names.extend(objects("ConfigMap").into_keys());
    for (name, container) in of_kube() {
        let (repository, _) = container.image.rsplit_once(':').expect("it has a tag");
        names.extend(repository.split('/').map(str::to_owned));
        names.extend([format!("{pod}-{name}"), name]);
    }
    let entries = fs::read_dir(ROOT).expect("the root can be read").map(|entry| entry.expect("it is read"));
    let taken = |name: &String| names.contains(name);
    let clashes: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(taken).collect();
    assert_eq!(clashes, [""; 0]);
}

#[test]
fn config_maps_are_within_the_limit_of_kubernetes() {
    for (name, config_map) in objects("ConfigMap") {
        let bytes = config_map["data"].to_string().len();
        assert!(bytes < CONFIG_MAP_BYTES, "{name} has {bytes} bytes");
    }
}

#[test]
fn settings_agree_with_each_other() {
    let containers = of_kube();
    let is_published =
        |service: &str, port: u64| containers[service].ports.iter().any(|(_, _, inside)| *inside == port);
    let file = |service: &str, path: &str| parse(&containers[service].files[path]);

    for container in containers.values() {
        for argument in &container.arguments {
            if let Some((_, path)) =
                argument.split_once("--config").and_then(|(_, rest)| rest.split_once('='))
            {
                assert!(container.files.contains_key(path), "{argument}");
            }
        }
    }
    let collector = file("collector", "/etc/otelcol/stack/otelcol.yaml");
    for protocol in ["grpc", "http"] {
        let endpoint = text(&collector["receivers"]["otlp"]["protocols"][protocol]["endpoint"]);
        let port = endpoint.rsplit(':').next().and_then(|port| port.parse().ok());
        assert!(is_published("collector", port.expect("it has a port")), "{endpoint}");
    }
    let endpoint = text(&collector["exporters"]["otlp_http"]["metrics_endpoint"]);
    assert_eq!(endpoint, "http://prometheus:9090/api/v1/otlp/v1/metrics");
    assert!(is_published("prometheus", 9090));

    let prometheus = file("prometheus", "/etc/prometheus/stack/prometheus.yaml");
    let rules: BTreeSet<String> = items(&prometheus["rule_files"]).map(text).collect();
    let mounted = containers["prometheus"].files.keys().filter(|path| path.starts_with(RULES));
    assert_eq!(rules, mounted.cloned().collect());
    assert!(!rules.is_empty());

    let folder = "/etc/grafana/provisioning";
    let source = file("grafana", &format!("{folder}/datasources/grafana-datasource.yaml"));
    let [source] = &items(&source["datasources"]).collect::<Vec<_>>()[..] else { panic!("{source}") };
    assert_eq!(source["url"], "http://prometheus:9090");
    let provider = file("grafana", &format!("{folder}/dashboards/grafana-dashboards.yaml"));
    let [provider] = &items(&provider["providers"]).collect::<Vec<_>>()[..] else { panic!("{provider}") };
    assert_eq!(provider["options"]["path"], DASHBOARDS);
    let home = &containers["grafana"].environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"];
    let home: Value = serde_json::from_str(&containers["grafana"].files[home]).expect("it is JSON");
    assert_eq!(home["title"], "eBPF Subsystem Metrics");
}

/// What the Collector has accepted is delivered, and what it cannot deliver is refused, for the exporter to keep it.
#[test]
fn the_collector_drops_no_metrics() {
    let collector = parse(&of_kube()["collector"].files["/etc/otelcol/stack/otelcol.yaml"]);
    let exporter = &collector["exporters"]["otlp_http"];
    assert_eq!(exporter["retry_on_failure"]["max_elapsed_time"], 0);
    let queue = &exporter["sending_queue"];
    assert!(number(&queue["queue_size"]) > 0);
    assert_eq!(queue["block_on_overflow"], Value::Null);
    // A batch processor answers before the queue takes or refuses the request.
    assert_eq!(
        collector["service"]["pipelines"]["metrics"]["processors"],
        serde_json::json!(["memory_limiter"])
    );
}

#[test]
fn the_dashboards_are_checked_by_the_types_of_the_grafana_in_the_stack() {
    let image = &of_kube()["grafana"].image;
    let (_, version) = image.rsplit_once(':').expect("it has a tag");
    let packages: Value = serde_json::from_str(&read("tests/dashboards/package.json")).expect("it is JSON");
    let schema = text(&packages["dependencies"]["grafana-schema-12"]);
    assert_eq!(schema, format!("npm:@grafana/schema@{version}"));
    assert!(read("tests/dashboards/check.cjs").contains("'grafana-schema-12'"));
}

#[test]
fn the_stack_has_every_dashboard_and_every_rule() {
    let containers = of_kube();
    for dist::File { path, text } in dist::files() {
        let Some((folder, name)) = path.rsplit_once('/') else { continue };
        let (service, folder) = match folder {
            "dist/grafana" => ("grafana", DASHBOARDS),
            "dist/prometheus" => ("prometheus", RULES),
            _ => continue,
        };
        assert_eq!(containers[service].files.get(&format!("{folder}/{name}")), Some(&text), "{path}");
    }
}
