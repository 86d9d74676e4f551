# What a developer runs. `just` alone lists it; `.ci/run` needs none of this.

default:
    @just --list

# Formatting, lints, documentation and tests
check:
    cargo fmt --all --check
    cargo clippy --locked --workspace --all-targets -- --deny warnings
    RUSTDOCFLAGS="--deny warnings" cargo doc --locked --workspace --no-deps --document-private-items
    cargo test --locked

# Everything, with real receivers
ci:
    .ci/run

# The tests on Linux 5.10, 6.1, 6.12 and 7.x, each in an emulator
kernels:
    tests/kernels/install
    tests/kernels/run

# Fuzzes every parser of bytes from outside, each for so many seconds
fuzz seconds="60" *targets:
    fuzz/run {{seconds}} {{targets}}

# Delivery through faults, with so many times SIGKILL, and the figures in docs/reliability.md
faults kills="200":
    FAULTS={{kills}} UPDATE=1 cargo test --locked --test root -- delivery::

# The object with the iterator programs, with Debian's clang
bpf:
    bpf/build

# Costs, as ratios in one run
bench:
    cargo bench --locked

# What bpftool, bpftop and node_exporter report of the same objects, and what a refresh of each costs, side by side in one run:
# docs/comparison.md. Needs a release build
compare *arguments:
    tests/compare/run {{arguments}}

# What nodes of several sizes need: docs/capacity.md. Needs a release build
capacity *arguments:
    tests/compare/capacity {{arguments}}

# Many nodes against a real Collector, Prometheus and VictoriaMetrics, for about an hour: docs/fleet.md. Needs 17 GB of free memory; `just fleet
# --nodes 200` less, and `just fleet outage` runs a part
fleet *arguments:
    cargo run --profile fleet --locked --package bpf-metrics-exporter-fleet -- run {{arguments}}
    just fleet-page

# Writes the tables and the plots of docs/fleet.md from the results of the last run
fleet-page:
    cargo run --profile fleet --locked --package bpf-metrics-exporter-fleet -- write

# Ten hours of ordinary life in ten minutes, with real objects and a real Prometheus: no alert may fire
ordinary-life seconds="600":
    ORDINARY_LIFE={{seconds}} cargo test --locked --test wire -- real_life

# Writes the dashboards, rules and the stack in dist/ and the root, and what docs/alerts.md says of the rules
dashboards:
    UPDATE=1 cargo test --locked --test rootless -- dist::files rules::docs

# Checks the dashboards by Grafana's types
dashboards-check:
    tests/dashboards/check

# Checks the chart, the manifest and the configurations for Kubernetes; `UPDATE=1` writes the manifest and the table of values
chart:
    tests/helm/check

# Draws the picture of the README from real programs, which takes the minutes and a release build
picture minutes="10":
    tests/dashboards/picture/make {{minutes}}

# Builds the page's script and style sheet
ui:
    src/web/page/ui/build

# Makes the pictures of the page, of `top` and of `snapshot` anew, from real programs, which takes the minutes
page-picture minutes="10":
    tests/page/picture {{minutes}}

# Accept changed outputs: read the diff before you commit it
update:
    UPDATE=1 cargo test --locked --test rootless -- golden:: generated:: dist::files rules::docs documents::

# Everything that is released, for both architectures, into target/dist
dist *architectures:
    dist/package/build {{architectures}}

# Builds this machine's architecture and checks it: equal twice, in an empty root, lintian, installed and removed
dist-check:
    dist/package/install
    dist/package/check

# Compiles twice in different folders and compares what is released, byte for byte
reproducible:
    dist/package/reproducible
