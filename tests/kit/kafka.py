"""Real Apache Kafka: one or several combined KRaft nodes.

with KafkaServer() as kafka:
"""

from __future__ import annotations

import base64
import shutil
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.kit import downloads, wheels
from tests.kit.broker import KafkaBroker
from tests.kit.process import (
    ChildProcess,
    ChildServer,
    environment_without,
    free_ports,
    run_all,
)


_JVM_OPTIONS = (
    "-Xmx512m",
    "-Xms256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    # Otherwise SIGKILL leaves a file in the system's temporary directory.
    "-XX:-UsePerfData",
)

# These would change the JVM behind the command line's back.
_FOREIGN_VARIABLES = ("CLASSPATH", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS")

_READY_LINE = "Kafka Server started"


@dataclass(frozen=True)
class Detour:
    """A second way to one broker, which leads through a proxy if a test runs one."""

    port: int
    broker_port: int


@dataclass(frozen=True)
class _Node:
    """One combined broker and controller."""

    number: int
    port: int
    controller_port: int
    detours: tuple[Detour, ...]
    folder: Path
    process: ChildProcess = field(repr=False)


def _new_cluster_id() -> str:
    """Name a cluster, without a leading dash: Kafka's tools take it for a flag."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


class KafkaServer(ChildServer, KafkaBroker):
    """An Apache Kafka of our own, for one run; each of its nodes takes 340 MB.

    Its data is removed at the end; a folder that is given is kept instead, and may
    come from an earlier server with as many nodes. Nodes that are stopped together
    wait for each other's votes, until the last of them is killed.
    """

    def __init__(
        self,
        nodes: int = 1,
        data_dir: Path | None = None,
        *,
        detours: int = 1,
    ) -> None:
        self._class_path = downloads.fetch_kafka()
        self._java = wheels.java()
        self._own_folder = data_dir is None
        self.data_dir = data_dir or Path(tempfile.mkdtemp(prefix="bridge-kafka-"))
        self.data_dir.mkdir(parents=True, exist_ok=True)
        ports = iter(free_ports((2 + 2 * detours) * nodes))
        self._nodes = tuple(
            self._node(
                number,
                next(ports),
                next(ports),
                tuple(Detour(next(ports), next(ports)) for _ in range(detours)),
            )
            for number in range(1, nodes + 1)
        )
        self._processes = [node.process for node in self._nodes]
        super().__init__(",".join(f"127.0.0.1:{node.port}" for node in self._nodes))

    def _node(
        self,
        number: int,
        port: int,
        controller_port: int,
        detours: tuple[Detour, ...],
    ) -> _Node:
        folder = self.data_dir / f"node-{number}"
        folder.mkdir(exist_ok=True)
        process = ChildProcess(
            f"Kafka node {number}",
            self._command(folder, "kafka.Kafka", folder / "server.properties"),
            log=folder / "kafka.log",
            cwd=folder,
            env=environment_without(*_FOREIGN_VARIABLES),
            scratch=self.data_dir if self._own_folder else None,
            ports=[port, controller_port, *(each.broker_port for each in detours)],
            ready=_serves,
        )
        return _Node(number, port, controller_port, detours, folder, process)

    def _command(self, folder: Path, *arguments: str | Path) -> list[str | Path]:
        # Native libraries are unpacked there; SIGKILL would leave them in /tmp.
        scratch = f"-Djava.io.tmpdir={folder}"
        options = (*_JVM_OPTIONS, scratch)
        return [self._java, *options, "-cp", self._class_path, *arguments]

    @property
    def pids(self) -> tuple[int, ...]:
        """Each node's process id."""
        return tuple(node.process.pid for node in self._nodes)

    @property
    def detours(self) -> tuple[Detour, ...]:
        """The first node's ways for proxies: as many proxies may run at once."""
        return self._nodes[0].detours

    def close(self) -> None:
        """End the server; its data is removed unless the caller named the folder."""
        if self._own_folder:
            self.kill()  # a clean log is of no use where it is removed
            shutil.rmtree(self.data_dir, ignore_errors=True)
        else:
            self.stop()

    def start(
        self, node: int | None = None, *, checkpoint: Callable[[], None] = lambda: None
    ) -> None:
        """Start all nodes that don't run, or one, and wait until they serve."""
        self._format(self._chosen(node), checkpoint)
        super().start(node, checkpoint=checkpoint)

    def _format(
        self, processes: Sequence[ChildProcess], checkpoint: Callable[[], None]
    ) -> None:
        """Write the nodes' properties, and format the data of those that have none."""
        cluster_id = self._cluster_id()
        formatters = []
        for node in self._nodes:
            if node.process.running or node.process not in processes:
                continue
            properties = node.folder / "server.properties"
            properties.write_text(self._properties(node))
            if (node.folder / "data" / "meta.properties").exists():
                continue
            arguments = ("format", "-t", cluster_id, "-c", properties)
            formatter = ChildProcess(
                f"Kafka's storage tool for node {node.number}",
                self._command(
                    node.folder,
                    "kafka.tools.StorageTool",
                    *arguments,
                    "--ignore-formatted",
                ),
                log=node.folder / "format.log",
                cwd=node.folder,
                env=environment_without(*_FOREIGN_VARIABLES),
            )
            formatters.append(formatter)
        run_all(
            formatters,
            deadline_seconds=self._start_deadline_seconds,
            checkpoint=checkpoint,
        )

    def _cluster_id(self) -> str:
        """The cluster's id, the same for all nodes and for data kept from before."""
        file = self.data_dir / "cluster-id"
        if not file.exists():
            file.write_text(_new_cluster_id())
        return file.read_text()

    def _properties(self, node: _Node) -> str:
        copies = min(len(self._nodes), 3)
        needed = max(1, copies - 1)
        voters = ",".join(
            f"{one.number}@127.0.0.1:{one.controller_port}" for one in self._nodes
        )
        # Between themselves brokers use the listener called PLAINTEXT.
        detours = list(enumerate(node.detours))
        names = ["PLAINTEXT", "CONTROLLER", *(f"DETOUR{n}" for n, _ in detours)]
        protocols = ",".join(f"{name}:PLAINTEXT" for name in names)
        plain = f"PLAINTEXT://127.0.0.1:{node.port}"
        shown = [f"DETOUR{n}://127.0.0.1:{one.port}" for n, one in detours]
        behind = [f"DETOUR{n}://127.0.0.1:{one.broker_port}" for n, one in detours]
        controller = f"CONTROLLER://127.0.0.1:{node.controller_port}"
        return "\n".join(
            (
                "process.roles=broker,controller",
                f"node.id={node.number}",
                f"controller.quorum.voters={voters}",
                f"listeners={','.join((plain, *behind, controller))}",
                f"advertised.listeners={','.join((plain, *shown))}",
                "controller.listener.names=CONTROLLER",
                f"listener.security.protocol.map={protocols}",
                f"log.dirs={node.folder / 'data'}",
                f"default.replication.factor={copies}",
                f"min.insync.replicas={needed}",
                f"offsets.topic.replication.factor={copies}",
                f"transaction.state.log.replication.factor={copies}",
                f"transaction.state.log.min.isr={needed}",
                f"share.coordinator.state.topic.replication.factor={copies}",
                f"share.coordinator.state.topic.min.isr={needed}",
                # Fewer internal partitions than 50: they are made at first use.
                "offsets.topic.num.partitions=5",
                "transaction.state.log.num.partitions=5",
                # How often it looks for transactions that are too old; Kafka's own
                # 10 s would have tests wait.
                "transaction.abort.timed.out.transaction.cleanup.interval.ms=1000",
                "group.initial.rebalance.delay.ms=0",
                # A killed broker may come back when its session has ended: with
                # Kafka's 9 s a restart took 11.5 s.
                "broker.session.timeout.ms=3000",
                "broker.heartbeat.interval.ms=500",
                "auto.create.topics.enable=false",
                "",
            )
        )


def _serves(process: ChildProcess) -> bool:
    return _READY_LINE in process.output()
