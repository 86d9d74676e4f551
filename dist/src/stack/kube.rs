//! `metrics-stack.yaml`: one pod, with the files in `ConfigMap`s.

use super::NAME;
use super::services::{Argument, Folder, PUBLISHED_ON, Port, Service, Variable};
use super::yaml::{Lines, quoted};

/// Returns the file.
pub(super) fn render(services: &[Service]) -> String {
    let mut lines = Lines::default();
    lines.block(
        0,
        "# A stack to try the exporter out: OpenTelemetry Collector, Prometheus and Grafana.\n\
         #\n\
         #   podman play kube metrics-stack.yaml\n\
         #   podman kube down metrics-stack.yaml\n\
         #\n\
         # Made by `just dashboards` from dist/; compose.yaml is the same for Docker. See docs/try-it-out.md.",
    );
    pod(&mut lines, services);
    for folder in services.iter().flat_map(|service| &service.folders) {
        config_map(&mut lines, folder);
    }
    lines.finish()
}

fn pod(lines: &mut Lines, services: &[Service]) {
    lines.block(0, "apiVersion: v1\nkind: Pod\nmetadata:");
    lines.add(2, &format!("name: {NAME}"));
    lines.block(0, "spec:\n  restartPolicy: OnFailure");
    lines.comment(
        2,
        "The containers of a pod share its loopback interface. The names are those of compose.yaml.",
    );
    lines.block(0, "  hostAliases:\n    - ip: 127.0.0.1\n      hostnames:");
    for service in services {
        lines.add(8, &format!("- {}", service.name));
    }
    lines.add(2, "containers:");
    for service in services {
        container(lines, service);
    }
    lines.add(2, "volumes:");
    for folder in services.iter().flat_map(|service| &service.folders) {
        lines.add(4, &format!("- name: {}", folder.name));
        lines.add(6, "configMap:");
        lines.add(8, &format!("name: {}", folder.name));
    }
}

fn container(lines: &mut Lines, service: &Service) {
    lines.comment(4, &format!("{}.", service.purpose));
    lines.add(4, &format!("- name: {}", service.name));
    lines.comment(6, service.origin);
    lines.add(6, &format!("image: {}:{}", service.image, service.version));
    if !service.arguments.is_empty() {
        lines.add(6, "args:");
        for Argument(argument, comment) in service.arguments {
            lines.comment(8, comment);
            lines.add(8, &format!("- {}", quoted(argument)));
        }
    }
    if !service.environment.is_empty() {
        lines.add(6, "env:");
        for Variable(name, value, comment) in service.environment {
            lines.comment(8, comment);
            lines.add(8, &format!("- name: {name}"));
            lines.add(10, &format!("value: {}", quoted(value)));
        }
    }
    lines.add(6, "ports:");
    for Port(port, purpose) in service.ports {
        lines.comment(8, &format!("{purpose}."));
        lines.add(8, &format!("- containerPort: {port}"));
        lines.add(10, &format!("hostPort: {port}"));
        lines.add(10, &format!("hostIP: {PUBLISHED_ON}"));
    }
    lines.add(6, "volumeMounts:");
    for folder in &service.folders {
        lines.add(8, &format!("- name: {}", folder.name));
        lines.add(10, &format!("mountPath: {}", folder.path));
        lines.add(10, "readOnly: true");
    }
}

fn config_map(lines: &mut Lines, folder: &Folder) {
    lines.block(0, "---\napiVersion: v1\nkind: ConfigMap\nmetadata:");
    lines.add(2, &format!("name: {}", folder.name));
    if folder.files.is_empty() {
        lines.add(0, "data: {}");
        return;
    }
    lines.add(0, "data:");
    for file in &folder.files {
        lines.add(2, &format!("{}: |", file.name()));
        lines.block(4, &file.text);
    }
}
