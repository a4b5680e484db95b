"""The configuration files of the embedded broker."""

from collections.abc import Mapping
from pathlib import Path

MAX_MESSAGE_BYTES = 4 * 1024 * 1024

# One node serves a test suite: nothing is replicated, groups form without waiting, and a topic exists
# only when somebody created it. The cleaner's buffer is on the heap, so it is kept small. It shares a few
# processors with its clients: more threads would only wake each other, and records that say nothing, by which
# controllers of a cluster see that they keep up, are half of what an idle node does.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=BROKER://{host}:{port},CONTROLLER://{host}:{controller_port}{listeners}
advertised.listeners=BROKER://{host}:{port}{listeners}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
log.dirs=log
num.network.threads=1
num.io.threads=2
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
offsets.topic.replication.factor=1
offsets.topic.num.partitions=5
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=5
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
message.max.bytes={max_message_bytes}
replica.fetch.max.bytes={max_message_bytes}
log.segment.delete.delay.ms=1000
log.cleaner.backoff.ms=5000
metadata.max.idle.interval.ms=0
log.cleaner.dedupe.buffer.size=33554432
"""

Listeners = Mapping[str, tuple[int, str]]
"""Name -> port and security protocol."""

_LOG4J = """\
<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="ERROR" shutdownHook="disable">
  <Appenders>
    <File name="file" fileName="broker.log">
      <PatternLayout pattern="%d %p %c{1} %m%n"/>
    </File>
  </Appenders>
  <Loggers>
    <Root level="INFO"><AppenderRef ref="file"/></Root>
  </Loggers>
</Configuration>
"""


def write_config(
    data_dir: Path,
    *,
    host: str,
    port: int,
    controller_port: int,
    listeners: Listeners | None = None,
    properties: Mapping[str, str] | None = None,
) -> tuple[Path, Path]:
    """Write the broker's properties and its log configuration into its data folder; return both paths.

    A broker that runs there takes them and its log by name alone: `log.dirs` would be cut at a comma of the
    folder's name, and a properties file is no UTF-8.

    Parameters
    ----------
    listeners : beside the plain one that brokers use among themselves
    properties : what these need, or what is to be other than usual
    """
    more, file = listeners or {}, data_dir / "server.properties"
    file.write_text(
        _PROPERTIES.format(
            host=host,
            port=port,
            controller_port=controller_port,
            max_message_bytes=MAX_MESSAGE_BYTES,
            listeners="".join(f",{name}://{host}:{port}" for name, (port, _) in more.items()),
            protocols="".join(f",{name}:{protocol}" for name, (_, protocol) in more.items()),
        )
        + "".join(f"{name}={value}\n" for name, value in (properties or {}).items())
    )
    log4j = data_dir / "log4j2.xml"
    log4j.write_text(_LOG4J)
    return file, log4j
