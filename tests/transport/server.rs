//! A Postgres that listens on TCP, encrypts, and wants a password there.

use std::fs::{Permissions, read_to_string, set_permissions, write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cimd_cache::{Schema, migrations};
use cimd_cache_private_postgres::PrivatePostgres;
use tokio::sync::OnceCell;
use tokio_postgres::Client;

use super::authority::{Authority, NAME};
use support::{connect, one};

pub(crate) const PASSWORD: &str = "hunter2";

pub(crate) struct Server {
    postgres: PrivatePostgres,
    pub(crate) port: u16,
    pub(crate) authority: Arc<Authority>,
}

/// The server of these tests, with a certificate that is in order.
pub(crate) async fn server() -> &'static Server {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    SERVER.get_or_init(|| Server::start(Arc::new(Authority::new("an authority")), 4000)).await
}

impl Server {
    /// Starts one whose certificate is valid until the beginning of a year.
    pub(crate) async fn start(authority: Arc<Authority>, until: i32) -> Self {
        let (postgres, port) = tokio::task::spawn_blocking(start_on_some_port).await.unwrap();
        let server = Self { postgres, port, authority };
        server.encrypt(until).await;
        server.admin().await.batch_execute(migrations::ROLES).await.unwrap();
        migrations::migrate(&server.socket_url("cimd_cache_owner"), &Schema::default()).await.unwrap();
        let password = format!("alter role cimd_cache_app password '{PASSWORD}'");
        server.admin().await.batch_execute(&password).await.unwrap();
        server
    }

    async fn encrypt(&self, until: i32) {
        let (data, identity) = (self.directory().join("data"), self.authority.issue(until));
        write(self.roots(), self.authority.pem()).unwrap();
        write(data.join("roots.pem"), self.authority.pem()).unwrap();
        write(data.join("server.crt"), identity.certificate_pem()).unwrap();
        let key = data.join("server.key");
        write(&key, identity.key_pem()).unwrap();
        // Postgres takes a key that only its own user can read.
        set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        chown(&key, Some(data.metadata().unwrap().uid()), None).unwrap();
        write(
            data.join("pg_hba.conf"),
            "local all all trust\n\
             host postgres all 127.0.0.1/32 scram-sha-256\n",
        )
        .unwrap();
        let settings = data.join("postgresql.conf");
        write(&settings, read_to_string(&settings).unwrap() + "\nssl = on\nssl_ca_file = 'roots.pem'\n")
            .unwrap();
        assert!(one::<bool>(&self.admin().await, "select pg_reload_conf()", &[]).await);
        while one::<String>(&self.admin().await, "select current_setting('ssl')", &[]).await != "on" {}
    }

    /// Over TCP lets in whom this line of pg_hba.conf says, from the next connection on.
    pub(crate) async fn admit(&self, line: &str) {
        let admin = self.admin().await;
        let loaded = "select extract(epoch from pg_conf_load_time())::float8";
        let before: f64 = one(&admin, loaded, &[]).await;
        write(self.directory().join("data/pg_hba.conf"), format!("local all all trust\n{line}\n")).unwrap();
        assert!(one::<bool>(&admin, "select pg_reload_conf()", &[]).await);
        // The server reads that file before it notifies its processes.
        while one::<f64>(&admin, loaded, &[]).await <= before {}
    }

    fn directory(&self) -> PathBuf {
        self.postgres.socket().parent().unwrap().to_owned()
    }

    /// The file with the certificate of the server's authority.
    pub(crate) fn roots(&self) -> PathBuf {
        self.directory().join("roots.pem")
    }

    fn socket_url(&self, role: &str) -> String {
        let url = self.postgres.url(role, "");
        format!("{}:{}/postgres", url.trim_end_matches('/'), self.port)
    }

    /// A connection that may do everything.
    pub(crate) async fn admin(&self) -> Client {
        connect(&self.socket_url("postgres")).await
    }

    /// As the application would name it, with further options (`&name=value`).
    pub(crate) fn url(&self, options: &str) -> String {
        self.url_by_way_of(self.port, options)
    }

    /// The same, but the way leads over another port.
    pub(crate) fn url_by_way_of(&self, port: u16, options: &str) -> String {
        let roots = self.roots();
        url(&format!("cimd_cache_app:{PASSWORD}"), NAME, port, Some(&roots), options)
    }
}

/// To a host that does not count as this machine, though the way leads to it.
pub(crate) fn url(login: &str, host: &str, port: u16, roots: Option<&Path>, options: &str) -> String {
    let roots = roots.map(|file| format!("&sslrootcert={}", file.display())).unwrap_or_default();
    format!("postgres://{login}@{host}:{port}/postgres?hostaddr=127.0.0.1{roots}{options}")
}

fn start_on_some_port() -> (PrivatePostgres, u16) {
    for _ in 0..4 {
        // Free now, and somebody else may be faster.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let arguments = ["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={port}")];
        if let Ok(server) = PrivatePostgres::start_with(&arguments) {
            return (server, port);
        }
    }
    panic!("no server starts on TCP");
}
