//! TLS to a real PostgreSQL that takes nothing else: what each `sslmode` accepts, and from whom.

use std::path::PathBuf;
use std::time::Duration;

use gateway_tests::{Gateway, Postgres, ProtocolVersion, wait};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::Value;

use crate::QOS1;
use crate::admin_api::get;

const LIMIT: Duration = Duration::from_secs(30);

/// An authority of this name.
fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// What `/v1/sinks` says of one.
fn sink(gateway: &Gateway, name: &str) -> Value {
    let sinks = get(gateway, "/v1/sinks");
    let found = sinks["sinks"].as_array().unwrap().iter().find(|sink| sink["name"] == name);
    found.unwrap_or_else(|| panic!("{name}: {sinks}")).clone()
}

#[test]
fn a_sink_trusts_whom_its_sslmode_says_and_nobody_else() {
    let (ours, other) = (authority("ours"), authority("other"));
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &ours).unwrap();
    let database = Postgres::start_with_tls(&certificate.pem(), &key.serialize_pem());
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (ours, other) = (file("ours.pem", &ours.pem()), file("other.pem", &other.pem()));
    let (ours, other) = (ours.display(), other.display());
    let sinks = [
        ("require", "127.0.0.1", "sslmode=require".to_owned(), Ok(())),
        ("full", "localhost", format!("sslmode=verify-full&sslrootcert={ours}"), Ok(())),
        ("name", "127.0.0.1", format!("sslmode=verify-full&sslrootcert={ours}"), Err("not valid for name")),
        ("issuer", "localhost", format!("sslmode=verify-full&sslrootcert={other}"), Err("UnknownIssuer")),
        ("machine", "localhost", "sslmode=verify-full".to_owned(), Err("UnknownIssuer")),
        ("clear", "localhost", "sslmode=disable".to_owned(), Err("no encryption")),
        ("silent", "localhost", "connect_timeout=5".to_owned(), Err("no encryption")),
    ];
    let port = database.port();
    let config = sinks.each_ref().map(|(name, host, query, _)| {
        format!(
            "{{name='{name}', type='postgres', stream='telemetry', from='earliest', table='of_{name}', \
             url='postgresql://postgres@{host}:{port}/postgres?{query}'}}"
        )
    });
    let gateway = Gateway::start_set(&[&format!("sink=[{}]", config.join(", "))]);
    let mut device = gateway.connect(ProtocolVersion::V5, "meter");
    for number in 0..10 {
        device.publish("devices/meter/out", &number.to_string(), QOS1);
    }
    for (name, _, _, expected) in &sinks {
        let count = format!("SELECT count(*) FROM of_{name}");
        match expected {
            Ok(()) => {
                let written = || database.try_query(&count).unwrap_or_default();
                wait::until_it("all is written", LIMIT, written, |rows| *rows == ["10"]);
                assert_eq!(sink(&gateway, name)["state"], "up", "{name}");
            }
            Err(error) => {
                let down = || sink(&gateway, name);
                let shown = wait::until_it("it is down", LIMIT, down, |sink| sink["state"] == "down");
                assert!(shown.to_string().contains(error), "{name}: {shown}");
                assert!(database.try_query(&count).is_err(), "{name}: it got far enough to make a table");
            }
        }
    }
    let encrypted = "SELECT bool_and(ssl), count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name = 'mqtt-gateway'";
    assert_eq!(database.query(encrypted), ["t\t2"]);
    gateway.assert_sound();
}
