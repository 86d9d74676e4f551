//! `compose.yaml`: a service for each container, with the files mounted from the repository.

use super::NAME;
use super::services::{Argument, PUBLISHED_ON, Port, Service, Variable};
use super::yaml::{Lines, quoted};

/// Returns the file.
pub(super) fn render(services: &[Service]) -> String {
    let mut lines = Lines::default();
    lines.block(
        0,
        "# A stack to try the exporter out: OpenTelemetry Collector, Prometheus and Grafana.\n\
         #\n\
         #   docker compose up --detach\n\
         #   docker compose down --volumes\n\
         #\n\
         # Made by `just dashboards` from dist/; metrics-stack.yaml is the same for Podman. See docs/try-it-out.md.",
    );
    lines.add(0, &format!("name: {NAME}"));
    lines.add(0, "services:");
    for (position, service) in services.iter().enumerate() {
        if position > 0 {
            lines.add(0, "");
        }
        render_service(&mut lines, service);
    }
    lines.finish()
}

fn render_service(lines: &mut Lines, service: &Service) {
    lines.comment(2, &format!("{}.", service.purpose));
    lines.add(2, &format!("{}:", service.name));
    lines.comment(4, service.origin);
    lines.add(4, &format!("image: {}:{}", service.image, service.version));
    lines.add(4, "restart: on-failure");
    if !service.arguments.is_empty() {
        lines.add(4, "command:");
        for Argument(argument, comment) in service.arguments {
            lines.comment(6, comment);
            lines.add(6, &format!("- {}", quoted(argument)));
        }
    }
    if !service.environment.is_empty() {
        lines.add(4, "environment:");
        for Variable(name, value, comment) in service.environment {
            lines.comment(6, comment);
            lines.add(6, &format!("{name}: {}", quoted(value)));
        }
    }
    lines.add(4, "ports:");
    for Port(port, purpose) in service.ports {
        lines.comment(6, &format!("{purpose}."));
        lines.add(6, &format!("- {}", quoted(&format!("{PUBLISHED_ON}:{port}:{port}"))));
    }
    let mut files = service
        .folders
        .iter()
        .flat_map(|folder| folder.files.iter().map(move |file| (folder, file)))
        .peekable();
    if files.peek().is_some() {
        lines.add(4, "volumes:");
    }
    for (folder, file) in files {
        lines.add(6, &format!("- ./{}:{}/{}:ro", file.path, folder.path, file.name()));
    }
    if !service.uses.is_empty() {
        lines.add(4, "depends_on:");
        for name in service.uses {
            lines.add(6, &format!("- {name}"));
        }
    }
}
