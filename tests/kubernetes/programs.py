"""The programs of a Kubernetes control plane: their versions, and where the cache has them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

KUBERNETES = "1.34.2"
HELM = "helm.sh/helm/v3"
KEDA = "github.com/kedacore/keda/v2"
KWOK = "sigs.k8s.io/kwok"


@dataclass(frozen=True, slots=True)
class Program:
    """A program of a Go module, pinned."""

    name: str
    module: str
    version: str
    package: str
    variables: tuple[str, ...] = ()  # set by the linker: what the program says of its version


def _kubernetes(name: str) -> Program:
    minor = KUBERNETES.split(".")[1]
    variables = tuple(
        f"{package}.{variable}"
        for package in ("k8s.io/client-go/pkg/version", "k8s.io/component-base/version")
        for variable in (f"gitVersion=v{KUBERNETES}", "gitMajor=1", f"gitMinor={minor}")
    )
    return Program(name, "k8s.io/kubernetes", f"v{KUBERNETES}", f"k8s.io/kubernetes/cmd/{name}", variables)


def _keda(name: str) -> Program:
    return Program(f"keda-{name}", KEDA, "v2.18.1", f"{KEDA}/cmd/{name}", (f"{KEDA}/version.Version=2.18.1",))


# Helm first: the static checks of the charts need no other.
PROGRAMS = (
    Program(
        "helm",
        HELM,
        "v3.19.0",
        f"{HELM}/cmd/helm",
        (
            f"{HELM}/internal/version.version=v3.19.0",
            # without a server, Helm renders for this version of Kubernetes
            *(
                f"{HELM}/pkg/{package}.k8sVersion{part}"
                for package in ("chartutil", "lint/rules")
                for part in ("Major=1", f"Minor={KUBERNETES.split('.')[1]}")
            ),
        ),
    ),
    *(
        _kubernetes(name)
        for name in ("kubectl", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
    ),
    Program("etcd", "go.etcd.io/etcd/server/v3", "v3.6.6", "go.etcd.io/etcd/server/v3"),
    Program("kwok", KWOK, "v0.7.0", f"{KWOK}/cmd/kwok"),
    _keda("operator"),
    _keda("adapter"),
    Program(
        "metrics-server",
        "sigs.k8s.io/metrics-server",
        "v0.9.0",
        "sigs.k8s.io/metrics-server/cmd/metrics-server",
    ),
)

# files of the modules that the control plane reads: folder in the cache → module, paths in it
FILES = {
    "crds": (KEDA, ("config/crd/bases/*.yaml",)),
    "kwok": (
        KWOK,
        tuple(
            f"kustomize/{name}.yaml"
            for name in (
                "stage/node/fast/node-initialize",
                "stage/node/heartbeat/node-heartbeat",
                "stage/pod/fast/pod-ready",
                "metrics/usage/usage-from-annotation",
                "metrics/resource/metrics-resource",
            )
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Built:
    """The folder of the cache with the programs of these versions; some may not be built yet."""

    folder: Path

    @classmethod
    def of(cls, cache: Path) -> "Built":
        """Return the folder of the pinned versions."""
        digest = hashlib.sha256(repr((PROGRAMS, FILES)).encode()).hexdigest()[:8]
        return cls(cache / f"kubernetes-v{KUBERNETES}-{digest}")

    def path(self, name: str) -> Path:
        """Return the path of a program."""
        return self.folder / "bin" / name

    def files(self, name: str) -> list[Path]:
        """Return the files of one of FILES."""
        return sorted((self.folder / name).glob("*.yaml"))

    def missing(self) -> list[Program]:
        """Return the programs that are to be built."""
        return [program for program in PROGRAMS if not self.path(program.name).exists()]

    def complete(self) -> bool:
        """Return whether nothing is missing."""
        return not self.missing() and all(self.files(name) for name in FILES)
