"""How to reach Kafka: what is not said is the default, what is contradictory refuses the start and says what to set."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from tests.integration.security.authority import Authority

from logue_common.errors import StartupError
from logue_common.settings import KafkaSettings

_USER = {"SASL_USERNAME": "logue-gateway", "SASL_PASSWORD": "not to be shown"}


@pytest.fixture
def authority(tmp_path: Path) -> str:
    Authority(tmp_path / "authority.pem")
    return str(tmp_path / "authority.pem")


def load(patch: pytest.MonkeyPatch, **variables: str) -> KafkaSettings:
    for name, value in {"BOOTSTRAP": "kafka:9092", **variables}.items():
        patch.setenv(f"LOGUE_KAFKA_{name}", value)
    return KafkaSettings.load()


def test_nothing_said_is_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    options = load(monkeypatch).client_options()
    assert (options["bootstrap_servers"], options["security_protocol"]) == ("kafka:9092", "PLAINTEXT")
    assert not {"ssl_context", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password"} & options.keys()


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = dict.fromkeys(("SASL_USERNAME", "SASL_PASSWORD", "SSL_CAFILE"), "")
    assert load(monkeypatch, **empty).client_options()["security_protocol"] == "PLAINTEXT"


def test_a_user_authenticates_with_scram_over_tls(monkeypatch: pytest.MonkeyPatch, authority: str) -> None:
    options = load(monkeypatch, SECURITY_PROTOCOL="SASL_SSL", SSL_CAFILE=authority, **_USER).client_options()
    assert (options["security_protocol"], options["sasl_mechanism"]) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("logue-gateway", "not to be shown")


def test_only_our_authority_is_trusted_and_the_brokers_name_is_checked(
    monkeypatch: pytest.MonkeyPatch, authority: str
) -> None:
    context = load(monkeypatch, SECURITY_PROTOCOL="SSL", SSL_CAFILE=authority).client_options()["ssl_context"]
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert [dict(*each["subject"])["commonName"] for each in context.get_ca_certs()] == ["Authority of a test"]


def test_without_a_file_the_authorities_of_the_system_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    context = load(monkeypatch, SECURITY_PROTOCOL="SSL").client_options()["ssl_context"]
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)


def test_all_clients_share_one_context(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, SECURITY_PROTOCOL="SSL")
    assert settings.client_options()["ssl_context"] is settings.client_options()["ssl_context"]


def test_the_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not to be shown" not in repr(load(monkeypatch, SECURITY_PROTOCOL="SASL_SSL", **_USER))


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {"SECURITY_PROTOCOL": "SASL_SSL"},
            "is SASL_SSL: set LOGUE_KAFKA_SASL_USERNAME and LOGUE_KAFKA_SASL_PASSWORD too.",
        ),
        (
            {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_USERNAME": "logue-gateway"},
            "is SASL_SSL: set LOGUE_KAFKA_SASL_PASSWORD too.",
        ),
        (_USER, "is PLAINTEXT, which uses no credentials: set it to SASL_SSL, or unset LOGUE_KAFKA_SASL_USERNAME and "),
        (
            {"SECURITY_PROTOCOL": "SSL", "SASL_PASSWORD": "secret"},
            "is SSL, which uses no credentials: set it to SASL_SSL",
        ),
        ({"SSL_CAFILE": "authority.pem"}, "is PLAINTEXT: set it to SASL_SSL or SSL, or unset LOGUE_KAFKA_SSL_CAFILE."),
        (
            {"SECURITY_PROTOCOL": "SSL", "SSL_CAFILE": "absent.pem"},
            "LOGUE_KAFKA_SSL_CAFILE is absent.pem, which cannot",
        ),
        ({"SECURITY_PROTOCOL": "SSL", "SSL_CAFILE": __file__}, r"cannot be read as certificates in PEM \("),
        (
            {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", **_USER},
            "LOGUE_KAFKA_SECURITY_PROTOCOL: Input should be 'PLAINTEXT', ",
        ),
        ({"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "GSSAPI", **_USER}, "LOGUE_KAFKA_SASL_MECHANISM: Input "),
    ],
)
def test_contradictions_refuse_the_start_with_what_to_set(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], sentence: str
) -> None:
    with pytest.raises(StartupError, match=sentence) as refused:
        load(monkeypatch, **variables)
    assert not any(secret in str(refused.value) for secret in ("not to be shown", "secret"))
