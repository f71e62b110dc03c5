//! The client's certificate.

use std::fs::{Permissions, set_permissions, write};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use cimd_cache::{Cache, CheckError, ConnectError, Error};
use support::{HOUR, ID, document, hit};

use super::authority::Authority;
use super::server::Server;
use super::{node, refused};

/// A server that wants to see a certificate, in both ways in which Postgres can be told to.
#[tokio::test]
async fn a_client_certificate_is_shown_and_is_the_only_way_in_where_one_is_asked_for() {
    let authority = Arc::new(Authority::new("an authority"));
    let server = Server::start(authority.clone(), 4000).await;
    let directory = tempfile::tempdir().unwrap();
    // The certificate and key of somebody, in files as URLs name them.
    let shown = |name: &str, authority: &Authority, common_name: &str| {
        let identity = authority.issue_to_client(common_name);
        let (certificate, key) =
            (directory.path().join(format!("{name}.crt")), directory.path().join(format!("{name}.key")));
        write(&certificate, identity.certificate_pem()).unwrap();
        write(&key, identity.key_pem()).unwrap();
        set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        format!("&sslcert={}&sslkey={}", certificate.display(), key.display())
    };
    let right = shown("right", &authority, "cimd_cache_app");
    let other_name = shown("other-name", &authority, "somebody");
    let others = shown("others", &Authority::new("another authority"), "cimd_cache_app");
    // With a password beside it, the server does not say which of the two was wrong.
    for (line, on_other_name) in [
        ("hostssl all all 127.0.0.1/32 cert", CheckError::Connection(ConnectError::ClientCertificate)),
        (
            "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-full",
            CheckError::Connection(ConnectError::Login),
        ),
    ] {
        server.admit(line).await;
        let node = node(&server.url(&right));
        node.check().await.unwrap();
        node.put(ID, &document(1), HOUR, None).await.unwrap();
        hit(&node, ID).await;
        for (options, why) in [
            ("", CheckError::Connection(ConnectError::ClientCertificate)),
            (&other_name, on_other_name),
            (&others, CheckError::Connection(ConnectError::ClientCertificate)),
        ] {
            let (check, get, log) = refused(&server.url(options)).await;
            assert_eq!(check, why, "{line} {options}: {log}");
            assert!(matches!(get, Error::Storage | Error::Unavailable), "{get}");
            assert!(!log.contains("PRIVATE KEY"), "{log}");
        }
    }
    // A key that others could read is no secret: said when the cache is built, by the name of the file.
    let key = directory.path().join("right.key");
    for (mode, usable) in [(0o644, false), (0o620, false), (0o660, false), (0o600, true), (0o400, true)] {
        set_permissions(&key, Permissions::from_mode(mode)).unwrap();
        let built = Cache::builder().database_url(&server.url(&right)).build();
        assert_eq!(built.is_ok(), usable, "{mode:o}");
        if let Err(error) = built {
            let text = error.to_string();
            assert!(text.contains("right.key") && text.contains("chmod 600"), "{text}");
        }
    }
    write(&key, "no key").unwrap();
    let error = Cache::builder().database_url(&server.url(&right)).build().unwrap_err().to_string();
    assert!(error.contains("has no private key"), "{error}");
}
