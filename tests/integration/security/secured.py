"""An Apache Kafka that trusts nobody: TLS everywhere, SCRAM for clients, certificates among its own parts, ACLs.

What its authorizer decides is in its log, so that tests can read who was allowed or refused what.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from tests.integration.security.authority import Authority

from logue_common.acls import apply_rights
from logue_common.rights import RIGHTS, user_of
from logue_common.settings import KafkaSettings
from logue_devstack.apache_kafka import ApacheKafka, broker_settings
from logue_devstack.server import LOOPBACK

ADMIN = "admin"
_BROKER = "broker"
_AUDIT_LOGGER = "kafka.authorizer.logger"
_DECISION = re.compile(
    r"Principal = User:(\S+) is (Allowed|Denied) operation = (\w+) "
    r"from host = \S+ on resource = (\w+):LITERAL:(\S+) for"
)


@dataclass(frozen=True, slots=True)
class Decision:
    """One answer of the authorizer."""

    user: str
    allowed: bool
    operation: str
    resource: str
    name: str


@dataclass(frozen=True)
class Keys:
    """What a secured broker and its clients hold."""

    folder: Path
    passwords: Mapping[str, str] = field(
        default_factory=lambda: {user: secrets.token_urlsafe(24) for user in (ADMIN, *map(user_of, RIGHTS))}
    )

    def __post_init__(self) -> None:
        Authority(self.authority).issue(_BROKER, self.broker)

    @property
    def authority(self) -> Path:
        return self.folder / "authority.pem"

    @property
    def broker(self) -> Path:
        return self.folder / "broker.pem"

    def environment(self, user: str) -> dict[str, str]:
        """Under which a service is `user`."""
        return {
            "LOGUE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "LOGUE_KAFKA_SASL_USERNAME": user,
            "LOGUE_KAFKA_SASL_PASSWORD": self.passwords[user],
            "LOGUE_KAFKA_SSL_CAFILE": str(self.authority),
        }

    def settings(self, user: str, bootstrap: str) -> KafkaSettings:
        """Under which this process is `user`."""
        return KafkaSettings(
            kafka_bootstrap=bootstrap,
            kafka_security_protocol="SASL_SSL",
            kafka_sasl_username=user,
            kafka_sasl_password=self.passwords[user],
            kafka_ssl_cafile=str(self.authority),
        )


class SecuredKafka(ApacheKafka):
    """One node. When it is ready every service has its user and its rights."""

    def __init__(
        self,
        data_dir: Path,
        port: int,
        *,
        broker_port: int,
        controller_port: int,
        keys: Keys,
        log: Path,
        stopping: threading.Event | None = None,
    ) -> None:
        ports = {"CLIENTS": port, "BROKERS": broker_port, "CONTROLLER": controller_port}
        super().__init__(
            data_dir,
            port,
            settings=_settings(ports, keys),
            format_options=[
                option
                for user, password in keys.passwords.items()
                for option in ("--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]")
            ],
            jvm_options=("-XX:TieredStopAtLevel=1", f"-Dorg.slf4j.simpleLogger.log.{_AUDIT_LOGGER}=debug"),
            log=log,
            stopping=stopping,
        )
        self.keys = keys
        #: By listener.
        self.ports = ports

    def settings_of(self, user: str) -> KafkaSettings:
        """How `user` reaches it."""
        return self.keys.settings(user, self.bootstrap)

    def is_ready(self) -> bool:
        return asyncio.run(self._answers())

    def after_ready(self) -> None:
        asyncio.run(apply_rights(self.settings_of(ADMIN)))

    def decisions(self, since: int = 0) -> set[Decision]:
        """What the authorizer decided, from a position in the log on."""
        with self.log.open("rb") as log:
            log.seek(since)
            found = _DECISION.findall(log.read().decode(errors="replace"))
        return {
            Decision(user, outcome == "Allowed", operation, resource.lower(), name)
            for user, outcome, operation, resource, name in found
        }

    async def _answers(self) -> bool:
        admin = AIOKafkaAdminClient(**self.settings_of(ADMIN).client_options())
        try:
            await admin.start()
            return bool((await admin.describe_cluster())["brokers"])
        except (KafkaError, OSError):
            return False
        finally:
            await admin.close()


def _settings(ports: Mapping[str, int], keys: Keys) -> dict[str, str]:
    listeners = {name: f"{name}://{LOOPBACK}:{number}" for name, number in ports.items()}
    return {
        **broker_settings(ports["CLIENTS"], ports["CONTROLLER"]),
        "listeners": ",".join(listeners.values()),
        "advertised.listeners": f"{listeners['CLIENTS']},{listeners['BROKERS']}",
        "listener.security.protocol.map": "CLIENTS:SASL_SSL,BROKERS:SSL,CONTROLLER:SSL",
        "inter.broker.listener.name": "BROKERS",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(keys.broker),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(keys.authority),
        # Clients show a password; brokers and controllers their certificate.
        "listener.name.brokers.ssl.client.auth": "required",
        "listener.name.controller.ssl.client.auth": "required",
        "listener.name.clients.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.clients.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        "super.users": f"User:{ADMIN};User:CN={_BROKER}",
    }
