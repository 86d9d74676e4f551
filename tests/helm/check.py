"""Checks what is shipped for Kubernetes: the chart, the manifest made of it, configurations of the Collector, a scrape job.

Each check is a function, in order at the end. A check that finds mistakes is shown to find one that is planted.
"""

import collections
import functools
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import yaml

import kubernetes_validate
import kubernetes_validate.utils

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "tests/helm"
CHART = ROOT / "dist/helm/bpf-metrics-exporter"
MANIFEST = ROOT / "dist/kubernetes/kubernetes.yaml"
README = CHART / "README.md"
TOOLS = ROOT / "target/helm"
RECEIVERS = ROOT / "target/receivers/bin"
HELM = TOOLS / "bin/helm"
KUBECTL = TOOLS / "bin/kubectl"
DOCUMENT = ROOT / "docs/install/kubernetes.md"

# Kubernetes has AppArmor as a field since 1.30. Helm renders for a newer one unless it is told otherwise.
BEFORE_APPARMOR = "1.29"
VERSIONS = [version.rsplit(".", 1)[0] for version in dict.fromkeys(
    version.split("-")[0] for version in kubernetes_validate.utils.all_versions())]

# The size of a Secret, in which Helm keeps the chart and the objects of a release, compressed and encoded.
MOST_OF_A_RELEASE = 1 << 20

# Kinds of the Prometheus operator, and the types that describe them.
OPERATOR = "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1"
OPERATOR_KINDS = ["PodMonitor", "PrometheusRule", "ServiceMonitor"]

# Fields of SecurityContextConstraints that the chart uses, by OpenShift's `security/v1` API: no package has a schema.
CONSTRAINTS = {
    "apiVersion": str, "kind": str, "metadata": dict, "users": list, "groups": list, "priority": (int, type(None)),
    "allowHostDirVolumePlugin": bool, "allowHostIPC": bool, "allowHostNetwork": bool, "allowHostPID": bool,
    "allowHostPorts": bool, "allowPrivilegedContainer": bool, "allowPrivilegeEscalation": bool,
    "allowedCapabilities": list, "defaultAddCapabilities": list, "requiredDropCapabilities": list,
    "readOnlyRootFilesystem": bool, "runAsUser": dict, "seLinuxContext": dict, "fsGroup": dict,
    "supplementalGroups": dict, "seccompProfiles": list, "volumes": list,
}

# The definitions of a version of Kubernetes are 1 MB of JSON.
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)


class Failure(Exception):
    """What is wrong, in words."""


def require(condition, message):
    if not condition:
        raise Failure(message)


def load(path):
    return yaml.safe_load(path.read_text())


def run(*command, environment=None):
    """Runs a program and returns its exit code and all that it printed."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          stdin=subprocess.DEVNULL, env={**os.environ, **(environment or {})}, check=False)
    return done.returncode, done.stdout


def succeed(*command, environment=None):
    code, output = run(*command, environment=environment)
    require(code == 0, f"{' '.join(map(str, command))}: exit code {code}\n{output}")
    return output


def template(values, *options, release="test", namespace="bpf-system"):
    """Renders the chart. Returns exit code and output."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(values, file)
        file.flush()
        return run(HELM, "template", release, CHART, "--namespace", namespace, "--values", file.name, *options)


def render(values, *options):
    code, output = template(values, *options)
    require(code == 0, output)
    objects = [each for each in yaml.safe_load_all(output) if each is not None]
    names = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in objects]
    require(len(set(names)) == len(names), f"an object occurs twice: {names}")
    return objects


def field(item, path):
    """Returns a field by its path, or None."""
    while path and item is not None:
        if isinstance(item, dict):
            # Keys have dots: the longest one counts.
            parts = path.split(".")
            ends = [end for end in range(len(parts), 0, -1) if ".".join(parts[:end]) in item]
            if not ends:
                return None
            item, path = item[".".join(parts[:ends[0]])], ".".join(parts[ends[0]:])
        elif isinstance(item, list):
            part, _, path = path.partition(".")
            if part.isdigit():
                item = item[int(part)] if int(part) < len(item) else None
            else:
                item = next((each for each in item if each.get("name") == part), None)
        else:
            return None
    return item


def exporter(objects):
    daemon_set = next(each for each in objects if each["kind"] == "DaemonSet")
    return next(each for each in daemon_set["spec"]["template"]["spec"]["containers"] if each["name"] == "exporter")


# The objects of each case, as rendered for the newest Kubernetes.
@functools.cache
def matrix():
    cases = load(HERE / "matrix.yaml")
    return [(case, render(case["values"])) for case in cases]


def lint():
    return succeed(HELM, "lint", "--strict", CHART).strip().splitlines()[-1]


def values_have_their_effect():
    checked = 0
    for case, objects in matrix():
        count = collections.Counter(each["kind"] for each in objects)
        for kind, wanted in case.get("count", {}).items():
            require(count[kind] == wanted, f"{case['name']}: {count[kind]} objects are a {kind}, not {wanted}")
        for place, wanted in case.get("expect", {}).items():
            kind, path = place.split(":", 1)
            found = next((each for each in objects if each["kind"] == kind), None)
            require(found is not None, f"{case['name']}: there is no {kind}")
            value = field(found, path)
            require(value == wanted, f"{case['name']}: {place} is {value!r}, not {wanted!r}")
            checked += 1
        for name, wanted in case.get("environment", {}).items():
            value = field(exporter(objects)["env"], f"{name}.value")
            require(value == wanted, f"{case['name']}: {name} is {value!r}, not {wanted!r}")
            checked += 1
        names = [each["name"] for each in exporter(objects)["env"]]
        require(len(set(names)) == len(names), f"{case['name']}: a variable is set twice: {names}")
    return f"{len(matrix())} renders, {checked} fields"


def leaves(values, path=()):
    """Yields the paths of values that are no maps, or empty ones."""
    for key, value in values.items():
        if isinstance(value, dict) and value and key not in WHOLE:
            yield from leaves(value, (*path, key))
        else:
            yield ".".join((*path, key))


# Maps that users replace or extend: a value each.
WHOLE = ["podAnnotations", "annotations", "nodeSelector", "affinity", "resources", "updateStrategy", "seccompProfile",
         "appArmorProfile"]


def every_value_is_set_by_a_case():
    defaults = load(CHART / "values.yaml")
    paths = set(leaves(defaults))
    changed = set()
    for case, _ in matrix():
        for path in paths:
            value, missing = case["values"], object()
            for key in path.split("."):
                value = value.get(key, missing) if isinstance(value, dict) else missing
            if value is not missing and value != field(defaults, path):
                changed.add(path)
    require(changed == paths, f"no case sets {', '.join(sorted(paths - changed))}")
    return f"{len(paths)} values"


def schema_has_the_values():
    """The schema has the keys of values.yaml, and each object in it refuses others."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    # Helm's own.
    extra = {"global", "containerSecurityContext.seLinuxOptions"}

    def compare(values, schema, path):
        properties = schema.get("properties")
        if properties is None:
            return
        require(schema.get("additionalProperties") is False, f"{path}: the schema accepts any key")
        known = {key for key in properties if ".".join((*path, key)) not in extra}
        require(known == set(values), f"{path}: keys of the schema and of values.yaml: {known ^ set(values)}")
        for key in known:
            # Maps that users give as a whole are Kubernetes' or the operator's own.
            if isinstance(values[key], dict) and values[key] and key not in WHOLE:
                compare(values[key], properties[key], (*path, key))

    compare(load(CHART / "values.yaml"), schema, ())
    return "the same keys"


def wrong_values_are_refused():
    cases = load(HERE / "refused.yaml")
    for case in cases:
        code, output = template(case["values"])
        require(code != 0, f"{case['values']} is accepted")
        require(case["message"] in output, f"{case['values']}: {case['message']!r} is not in:\n{output}")
    return f"{len(cases)} values"


def validate(objects, versions):
    for each in objects:
        if each["kind"] in OPERATOR_KINDS or each["kind"] == "SecurityContextConstraints":
            continue
        for version in versions:
            try:
                kubernetes_validate.validate(each, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                path = ".".join(map(str, error.path))
                raise Failure(f"Kubernetes {version}: {each['kind']}: {path}: {error.message}") from error


def objects_are_valid():
    new = [version for version in VERSIONS if tuple(map(int, version.split("."))) >= (1, 30)]
    old = [version for version in VERSIONS if version not in new]
    for case, objects in matrix():
        validate(objects, new)
        before = render(case["values"], "--kube-version", BEFORE_APPARMOR)
        require("appArmorProfile" not in exporter(before)["securityContext"], case["name"])
        validate(before, old)
    wrong = json.loads(json.dumps(matrix()[0][1]))
    exporter(wrong)["securityContext"]["readOnlyRootFileSystem"] = True
    try:
        validate(wrong, new[-1:])
    except Failure as found:
        require("readOnlyRootFileSystem" in str(found), str(found))
    else:
        raise Failure("an unknown field is not found")
    return f"Kubernetes {VERSIONS[0]} to {VERSIONS[-1]}"


def apparmor_is_an_annotation_before_1_30():
    annotation = "spec.template.metadata.annotations.container.apparmor.security.beta.kubernetes.io/exporter"
    wanted = {"Unconfined": "unconfined", "RuntimeDefault": "runtime/default", "Localhost": "localhost/bpf"}
    for kind, expected in wanted.items():
        profile = {"type": kind, **({"localhostProfile": "bpf"} if kind == "Localhost" else {})}
        values = {"containerSecurityContext": {"appArmorProfile": profile}}
        daemon_set = next(each for each in render(values, "--kube-version", BEFORE_APPARMOR) if each["kind"] == "DaemonSet")
        require(field(daemon_set, annotation) == expected, f"{kind}: {field(daemon_set, annotation)}")
    for case, objects in matrix():
        daemon_set = next(each for each in objects if each["kind"] == "DaemonSet")
        require(field(daemon_set, annotation) is None, case["name"])
    return "three profiles"


def compile_types(objects):
    """Has TypeScript compare objects with the operator's types. Returns exit code and output."""
    lines = [f"import type {{ I{kind} }} from '{OPERATOR}/{kind}';" for kind in OPERATOR_KINDS]
    for number, each in enumerate(objects):
        lines.append(f"export const object{number}: I{each['kind']} = {json.dumps(each)};")
    with tempfile.NamedTemporaryFile("w", suffix=".ts", dir=TOOLS) as file:
        file.write("\n".join(lines))
        file.flush()
        return run(TOOLS / "node_modules/.bin/tsc", "--noEmit", "--strict", "--skipLibCheck", "--target", "es2022",
                   "--module", "nodenext", "--moduleResolution", "nodenext", file.name)


def operator_objects_fit_their_types():
    objects = [each for _, rendered in matrix() for each in rendered if each["kind"] in OPERATOR_KINDS]
    require({each["kind"] for each in objects} == set(OPERATOR_KINDS), "a kind is missing")
    code, output = compile_types(objects)
    require(code == 0, output)
    wrong = json.loads(json.dumps(next(each for each in objects if each["kind"] == "ServiceMonitor")))
    wrong["spec"]["endpoints"][0]["intervall"] = "30s"
    code, output = compile_types([wrong])
    require(code != 0 and "intervall" in output and "does not exist" in output, f"an unknown field is not found: {output}")
    return f"{len(objects)} objects"


def constraints_have_their_fields():
    found = 0
    for case, objects in matrix():
        for each in objects:
            if each["kind"] == "SecurityContextConstraints":
                require(set(each) == set(CONSTRAINTS), f"{case['name']}: {set(each) ^ set(CONSTRAINTS)}")
                for key, kind in CONSTRAINTS.items():
                    require(isinstance(each[key], kind), f"{case['name']}: {key} is {each[key]!r}")
                container = exporter(objects)
                granted = set(container["securityContext"]["capabilities"]["add"])
                require(granted <= set(each["allowedCapabilities"]), f"{case['name']}: {granted}")
                found += 1
    require(found > 0, "no case has any")
    return f"{found} objects"


def every_mount_has_a_volume():
    for case, objects in matrix():
        daemon_set = next(each for each in objects if each["kind"] == "DaemonSet")
        volumes = {each["name"] for each in daemon_set["spec"]["template"]["spec"].get("volumes", [])}
        mounts = [each["name"] for each in exporter(objects).get("volumeMounts", [])]
        require(volumes == set(mounts), f"{case['name']}: {volumes ^ set(mounts)}")
        paths = [each["mountPath"] for each in exporter(objects).get("volumeMounts", [])]
        require(len(set(paths)) == len(paths), f"{case['name']}: {paths}")
    return f"{len(matrix())} renders"


def promtool_rules(groups):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump({"groups": groups}, file)
        file.flush()
        return run(RECEIVERS / "promtool", "check", "rules", "--lint=none", file.name)


def rules_are_those_of_dist():
    def flat(groups):
        return {(group["name"], rule.get("alert") or rule["record"]): rule for group in groups for rule in group["rules"]}

    shipped = {}
    for path in sorted((ROOT / "dist/prometheus").glob("bpf-*.yaml")):
        shipped |= flat(load(path)["groups"])
    alerts = {key for key, rule in shipped.items() if "alert" in rule}
    for case, objects in matrix():
        rendered = [each for each in objects if each["kind"] == "PrometheusRule"]
        if not rendered:
            continue
        values = case["values"]["prometheus"]["rules"]
        wanted = dict(shipped)
        for key in alerts:
            if not values.get("alerts", True) or key[1] in values.get("disabledAlerts", []):
                del wanted[key]
        found = {}
        for each in rendered:
            found |= flat(each["spec"]["groups"])
            code, output = promtool_rules(each["spec"]["groups"])
            require(code == 0, f"{case['name']}: {output}")
        require(found == wanted, f"{case['name']}: rules differ: {found.keys() ^ wanted.keys()}")
    code, _ = promtool_rules([{"name": "wrong", "rules": [{"record": "a:b:c", "expr": "sum("}]}])
    require(code != 0, "promtool accepts what is no expression")
    return f"{len(shipped)} rules"


def dashboards_are_those_of_dist():
    shipped = {path.name: json.loads(path.read_text()) for path in (ROOT / "dist/grafana").glob("*.json")}
    cases = 0
    for case, objects in matrix():
        if not case["values"].get("dashboards", {}).get("enabled"):
            continue
        found = {name: json.loads(text) for each in objects if each["kind"] == "ConfigMap"
                 for name, text in each["data"].items()}
        require(found == shipped, f"{case['name']}: dashboards differ")
        cases += 1
    require(cases > 0, "no case has any")
    return f"{len(shipped)} dashboards"


def packages_are_alike():
    digests, sizes = [], []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as directory:
            succeed(HELM, "package", CHART, "--destination", directory)
            [package] = pathlib.Path(directory).iterdir()
            sizes.append(package.stat().st_size)
            unpacked = pathlib.Path(directory) / "unpacked"
            unpacked.mkdir()
            succeed("tar", "-xf", package, "-C", unpacked)
            files = sorted(path for path in unpacked.rglob("*") if path.is_file())
            digests.append([(str(path.relative_to(unpacked)), hashlib.sha256(path.read_bytes()).hexdigest())
                            for path in files])
            # What is packaged renders as the folder does.
            code, output = run(HELM, "template", "test", package, "--namespace", "bpf-system")
            require((code, output) == template({}), "the package renders otherwise than the folder")
    require(digests[0] == digests[1], "two packages have different files")
    # Base64 twice, and the objects of the release.
    require(sizes[0] * 16 // 9 * 2 < MOST_OF_A_RELEASE, f"the package has {sizes[0]} bytes")
    return f"{len(digests[0])} files, {sizes[0] // 1024} KiB"


def assert_golden(path, text):
    if os.environ.get("UPDATE"):
        path.write_text(text)
    name = path.relative_to(ROOT)
    require(path.exists() and path.read_text() == text, f"{name} is not up to date: UPDATE=1 tests/helm/check")


def manifest_is_up_to_date():
    code, output = template({"fullnameOverride": "bpf-metrics-exporter"}, release="bpf-metrics-exporter")
    require(code == 0, output)
    # Helm does not manage these objects.
    lines = [line for line in output.splitlines()
             if not re.match(r"# Source: | *(helm\.sh/chart|app\.kubernetes\.io/managed-by): ", line)]
    head = (HERE / "manifest-head.yaml").read_text()
    text = head + "\n".join(lines).removesuffix("\n") + "\n"
    assert_golden(MANIFEST, text)
    objects = list(yaml.safe_load_all(text))
    validate(objects, [version for version in VERSIONS if tuple(map(int, version.split("."))) >= (1, 30)])
    namespace, *others = objects
    require(namespace["kind"] == "Namespace", "the namespace comes first")
    for each in others:
        require(each["metadata"]["namespace"] == namespace["metadata"]["name"], each["kind"])
    return f"{len(objects)} objects"


def values_table():
    """Returns a row for each value of values.yaml, with the comment above it."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    defaults = load(CHART / "values.yaml")
    rows, path, comment = [], [], []
    described = None
    for line in lines:
        stripped = line.strip()
        depth = (len(line) - len(line.lstrip())) // 2
        if stripped.startswith("#"):
            comment.append(stripped.lstrip("# "))
            continue
        match = re.match(r"([A-Za-z][A-Za-z0-9]*):", stripped)
        if not stripped or not match or (described is not None and depth > described):
            comment = []
            continue
        path = [*path[:depth], match[1]]
        key = ".".join(path)
        value = field(defaults, key)
        described = None
        if comment:
            whole = not isinstance(value, dict) or not value or path[-1] in WHOLE
            text = " ".join(comment)
            # A section of other values has a sentence, too, which is no row.
            if whole:
                shown = json.dumps(value, ensure_ascii=False)
                rows.append((key, f"`{shown}`".replace("|", "\\|"), text.replace("|", "\\|")))
                described = depth
        else:
            require(isinstance(value, dict) and value, f"{key} in values.yaml has no description")
        comment = []
    found = {row[0] for row in rows}
    require(found == set(leaves(defaults)), f"values without a row: {found ^ set(leaves(defaults))}")
    return rows


def readme_has_the_values():
    start, end = "<!-- values -->\n", "<!-- end -->\n"
    text = README.read_text()
    before, rest = text.split(start)
    after = rest.split(end)[1]
    rows = values_table()
    table = "".join(f"| `{key}` | {default} | {text} |\n" for key, default, text in rows)
    assert_golden(README, f"{before}{start}| value | default | |\n|---|---|---|\n{table}{end}{after}")
    return f"{len(rows)} values"


def notes_name_what_is_there():
    # Helm renders the notes for an installation only.
    def notes(values):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            json.dump(values, file)
            file.flush()
            return succeed(HELM, "install", "test", CHART, "--namespace", "bpf-system", "--dry-run=client",
                           "--values", file.name)

    usual = notes({})
    for part in ["exec daemonset/test-bpf-metrics-exporter -- /bpf-metrics-exporter doctor", "Nothing is pushed",
                 "port-forward daemonset/test-bpf-metrics-exporter 10048"]:
        require(part in usual, f"{part!r} is not in the notes")
    other = notes({"hostPID": False, "prometheus": {"monitor": {"enabled": True}}})
    require("hostPID is off" in other and "Nothing is pushed" not in other, other)
    require("leastPrivilege is on" in notes({"leastPrivilege": True}), "the loss is not in the notes")

    # Certificates to trust.
    def otlp(**more):
        return {"destinations": [{"endpoint": "https://otlp.example.com", "protocol": "http"}], **more}

    volume = {"extraVolumes": [{"name": "ca", "hostPath": {"path": "/etc/ssl/certs", "type": "Directory"}}],
              "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ssl/certs", "readOnly": True}]}
    plain = {"destinations": [{"endpoint": "http://$(HOST_IP):4317"}]}
    for values, wanted in [
        ({"otlp": otlp()}, True), ({"otlp": otlp(tls={"caSecret": {"name": "otlp-ca", "key": "ca.crt"}})}, False),
        ({"otlp": otlp(), **volume}, False), ({"otlp": plain}, False),
    ]:
        shown = notes(values)
        require(("has no certificates to trust" in shown) == wanted, f"{values}: {shown}")

    # Monitors of an endpoint with TLS.
    for kind in ["monitor", "podMonitor"]:
        for scheme, wanted in [("http", True), ("https", False)]:
            values = {"prometheus": {kind: {"enabled": True, "scheme": scheme}}}
            shown = notes(values)
            require("web.configSecret" not in shown, shown)
            shown = notes({**values, "web": {"configSecret": {"name": "web"}}})
            require((f"prometheus.{kind} needs `scheme: https`" in shown) == wanted, shown)
    return "15 installations"


def limits_hold_the_backlog():
    """The sum that values.yaml and the page have, for the renders and for the values in the page."""
    page = [render(yaml.safe_load(block)) for block in re.findall(r"^```yaml\n(.*?)^```$", DOCUMENT.read_text(), re.M | re.S)
            if "otlp" in yaml.safe_load(block)]
    require(len(page) == 2, f"{len(page)} examples")

    def need(objects):
        settings = {each["name"]: each.get("value", "") for each in exporter(objects)["env"]}
        receivers = [name for key in ["OTLP_GRPC", "OTLP_HTTP"]
                     for name in settings.get(f"BPF_METRICS_EXPORTER_{key}", "none").split(",") if name != "none"]
        return (64 << 20) + len(receivers) * int(settings.get("BPF_METRICS_EXPORTER_OTLP_BACKLOG_BYTES", 0)) * 9 // 8

    def limit(objects):
        text = field(exporter(objects), "resources.limits.memory")
        [(number, unit)] = re.findall(r"^(\d+)(Mi|Gi)$", text)
        return int(number) << {"Mi": 20, "Gi": 30}[unit]

    for objects in [objects for _, objects in matrix()] + page:
        require(need(objects) <= limit(objects), f"{need(objects)} bytes are needed: {exporter(objects)}")
    two = render({"otlp": {"destinations": [{"endpoint": "http://a:4317"}, {"endpoint": "http://b:4317"}]}})
    require(need(two) > limit(two), "two destinations fit into the default")
    for objects, text in [(page[0], "100 MiB for one"), (two, "136 MiB for two")]:
        require(text in " ".join(DOCUMENT.read_text().split()), text)
        require(need(objects) >> 20 == int(text.split()[0]), f"{text}, not {need(objects)}")
    return f"{len(matrix()) + len(page)} renders"


def commands(section):
    """Returns the commands of the first block of a section of the page."""
    _, found, text = DOCUMENT.read_text().partition(f"\n## {section}\n")
    require(found, f"there is no section {section!r}")
    block = re.search(r"^```\n(.*?)^```$", text, re.M | re.S)[1]
    return block.replace("\\\n", "").splitlines()


def documentation_is_right():
    text = DOCUMENT.read_text()
    blocks = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.M | re.S)]
    [kustomization] = [block for block in blocks if "resources" in block]
    collector, outside = [block for block in blocks if "otlp" in block]

    def variable(objects, name):
        return field(exporter(objects)["env"], f"{name}.value")

    objects = render(collector)
    validate(objects, VERSIONS[-1:])
    require(variable(objects, "BPF_METRICS_EXPORTER_OTLP_GRPC") == "http://$(HOST_IP):4317", objects)
    require("headersSecret" not in collector["otlp"], "a token is sent without TLS")
    objects = render(outside)
    validate(objects, VERSIONS[-1:])
    require(variable(objects, "BPF_METRICS_EXPORTER_OTLP_HTTP") == "https://otlp.example.com", objects)
    require(variable(objects, "OTEL_EXPORTER_OTLP_CERTIFICATE") and "insecure" not in outside["otlp"], objects)
    [ipv6] = re.findall(r"`(http://\[\S+)`", text)
    objects = render({"otlp": {"destinations": [{"endpoint": ipv6}]}})
    require(variable(objects, "BPF_METRICS_EXPORTER_OTLP_GRPC") == "http://[$(HOST_IP)]:4317", objects)

    # What is pushed is what the chart and the manifest run.
    version = load(CHART / "Chart.yaml")["version"]
    [push] = commands("The image")
    archive, pushed = push.split()[-2:]
    require(archive == f"oci-archive:bpf-metrics-exporter-{version}.oci.tar", push)
    pushed = pushed.removeprefix("docker://")
    helm = commands("With Helm")
    options = [part for part in helm[-1].split() if "=" in part]
    code, output = run(HELM, "template", "test", CHART, "--set", *options)
    require(code == 0 and f'image: "{pushed}"' in output, f"{pushed} is not in {output}")
    for path in [DOCUMENT, README]:
        found = set(re.findall(r"bpf-metrics-exporter[:-]v?(\d+\.\d+\.\d+)", path.read_text()))
        require(found <= {version}, f"{path.name}: {found}")
    manifest = commands("With the manifest")
    count = f"| {1 + len(helm)} with Helm, {1 + len(manifest)} with the manifest |"
    require(count in text, f"the table of commands has not {count!r}")

    [image] = kustomization["images"]

    def built():
        with tempfile.TemporaryDirectory() as directory:
            [resource] = kustomization["resources"]
            (pathlib.Path(directory) / resource).write_text(MANIFEST.read_text())
            (pathlib.Path(directory) / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
            return exporter(list(yaml.safe_load_all(succeed(KUBECTL, "kustomize", directory))))["image"]

    require(built() == pushed, f"the image is {built()}, not {pushed}")
    image["digest"] = "sha256:" + 64 * "0"
    require(built() == f"{image['newName']}@{image['digest']}", f"the image is {built()}")

    # Values that are named, alone or with what to set them to.
    defaults = load(CHART / "values.yaml")
    # What users write below a value that is an empty map.
    free = {"podSecurityContext.seLinuxOptions.type", "containerSecurityContext.seccompProfile.type"}
    known = set(leaves(defaults)) | free
    # An attribute of the resource begins like a value. The names in another chart differ.
    others = {"service.instance.id"}
    rows = text.partition("| there | here |\n|---|---|\n")[2].partition("\n\n")[0].splitlines()
    require(rows, "the names in the other chart are missing")
    for row in rows:
        there, here = row.strip("| ").split(" | ")
        others |= set(re.findall(r"`([\w.]+)`", there)) - known
        for word in re.findall(r"`([\w.]+)`", here):
            require(word in known or word in defaults, f"{word} is no value")
    named = {word for word in re.findall(r"`([a-zA-Z]+(?:\.[a-zA-Z]+)+)(?:[=:][^`]*)?`", text)
             if word.split(".")[0] in defaults} - others
    for word in named:
        prefixes = any(path == word or path.startswith(word + ".") for path in known)
        require(prefixes, f"{word} is no value")
    for line in re.findall(r"--set ([\w.]+)=", text):
        require(line in known, f"{line} is no value")
    require(len(named) > 15, f"{named}")
    return f"{len(blocks)} examples, {len(named)} names of values"


def collectors_are_valid():
    environment = {"GATEWAY": "gateway.example.com:4317", "PROMETHEUS": "http://prometheus:9090",
                   "LOGS": "http://loki:3100/otlp"}
    paths = sorted((ROOT / "dist/collector").glob("*.yaml"))
    require([path.name for path in paths] == ["agent.yaml", "gateway.yaml"], f"{paths}")
    for path in paths:
        succeed(RECEIVERS / "otelcol", "validate", "--config", path, environment=environment)
        for name, each in load(path)["exporters"].items():
            require(each["sending_queue"]["num_consumers"] == 1, f"{path.name}: {name} may reorder points")
        for name in re.findall(r"\$\{env:(\w+)\}", path.read_text()):
            require(name in environment, f"{path.name} reads {name}")
        wrong = path.read_text().replace("queue_size:", "queue_sise:")
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(wrong)
            file.flush()
            code, _ = run(RECEIVERS / "otelcol", "validate", "--config", file.name, environment=environment)
        require(code != 0, f"a misspelt key of {path.name} is not found")
    return " ".join(path.name for path in paths)


def scrape_job_selects_the_pods():
    """Debian's promtool has no discovery of Kubernetes: in its place are targets in a file, with what Kubernetes says of them."""
    config = load(ROOT / "dist/prometheus/scrape-config.yaml")
    [job] = [each for each in config["scrape_configs"] if "kubernetes_sd_configs" in each]
    require(job.pop("kubernetes_sd_configs") == [{"role": "pod"}], "the job does not list pods")
    labels = exporter_labels()

    def target(address, **meta):
        meta = {f"__meta_kubernetes_{key}": value for key, value in meta.items()}
        return {"targets": [address], "labels": meta}

    ours = {"pod_label_app_kubernetes_io_name": labels["app.kubernetes.io/name"], "namespace": "bpf-system"}
    port = {"pod_container_port_name": exporter(matrix()[0][1])["ports"][0]["name"]}
    targets = [
        target("10.0.0.1:10048", **ours, **port, pod_node_name="node-1", pod_phase="Running"),
        target("10.0.0.2:10048", **ours, **port, pod_node_name="node-2", pod_phase="Failed"),
        target("10.0.0.3:9000", **ours, pod_container_port_name="other", pod_node_name="node-3", pod_phase="Running"),
        target("10.0.0.4:80", pod_label_app_kubernetes_io_name="other", **port, pod_node_name="node-4", pod_phase="Running"),
    ]
    with tempfile.TemporaryDirectory() as directory:
        discovered = pathlib.Path(directory) / "targets.json"
        discovered.write_text(json.dumps(targets))
        job["file_sd_configs"] = [{"files": [str(discovered)]}]
        path = pathlib.Path(directory) / "prometheus.yaml"
        path.write_text(yaml.safe_dump(config))
        succeed(RECEIVERS / "promtool", "check", "config", path)
        # Its log is on standard error.
        output = subprocess.run([RECEIVERS / "promtool", "check", "service-discovery", "--timeout=3s", path, job["job_name"]],
                                capture_output=True, text=True, check=True).stdout
    # Targets that are dropped have no labels left.
    kept = [each["labels"] for each in json.loads(output) if each.get("labels")]
    wanted = {"__address__": "10.0.0.1:10048", "instance": "node-1", "node": "node-1", "namespace": "bpf-system",
              "job": "bpf-metrics-exporter"}
    require(len(kept) == 1, output)
    shown = {key: kept[0].get(key) for key in wanted}
    require(shown == wanted, f"{kept}")
    return "one of four targets"


def exporter_labels():
    daemon_set = next(each for each in matrix()[0][1] if each["kind"] == "DaemonSet")
    return daemon_set["spec"]["template"]["metadata"]["labels"]


CHECKS = [
    lint, values_have_their_effect, every_value_is_set_by_a_case, schema_has_the_values, wrong_values_are_refused,
    objects_are_valid, apparmor_is_an_annotation_before_1_30, operator_objects_fit_their_types,
    constraints_have_their_fields, every_mount_has_a_volume, rules_are_those_of_dist, dashboards_are_those_of_dist,
    packages_are_alike, manifest_is_up_to_date, readme_has_the_values, notes_name_what_is_there, limits_hold_the_backlog,
    documentation_is_right, collectors_are_valid, scrape_job_selects_the_pods,
]


def main():
    failed = 0
    for check in CHECKS:
        began = time.monotonic()
        name = check.__name__.replace("_", " ")
        try:
            result = check()
            print(f"ok   {name}: {result} ({time.monotonic() - began:.1f} s)", flush=True)
        except Failure as failure:
            failed += 1
            print(f"FAIL {name}: {failure}", flush=True)
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks passed, with Helm {succeed(HELM, 'version', '--short').strip()}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
