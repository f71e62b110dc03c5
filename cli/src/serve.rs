//! The service: arguments in, and it runs until a signal.

use std::time::Duration;

use cimd_cache::{Cache, CheckError};
use cimd_cache_service::{Settings, SocketAccess, TlsFiles, interrupted};
use sd_notify::NotifyState;

use crate::args::{Database, Serve};
use crate::outcome::{Failed, Outcome, say, with_causes};

pub(super) async fn serve(database: &Database, arguments: Serve) -> Result<Outcome, Failed> {
    let url = database.url()?.ok_or(CheckError::NotConfigured)?;
    let mut builder = Cache::builder()
        .database_url(&url)
        .schema(database.schema.clone())
        .deadline(Duration::from_millis(arguments.deadline_ms))
        .read_connections(arguments.read_connections)
        .write_connections(arguments.write_connections)
        .max_batch(arguments.max_batch)
        .max_waiting(arguments.max_waiting)
        .prepare_statements(arguments.prepare_statements)
        .near_bytes(arguments.near_bytes)
        .interpret(arguments.interpret);
    if arguments.near_ttl_ms > 0 {
        builder = builder.near_ttl(Duration::from_millis(arguments.near_ttl_ms));
    }
    let cache = builder.build()?;
    let settings = settings(arguments);
    let addresses: Vec<_> = settings.listen.iter().map(|listen| listen.address.to_string()).collect();
    let listening = move || {
        say(&format!("listening on {}", addresses.join(" and ")));
        notify(NotifyState::Ready);
    };
    cimd_cache_service::serve(cache, settings, listening, stopped())
        .await
        .map_err(|error| Failed::usage(with_causes(&error)))?;
    Ok(Outcome::Done)
}

fn settings(arguments: Serve) -> Settings {
    let mut settings = Settings::default();
    settings.listen = arguments.listen;
    settings.socket = SocketAccess { mode: arguments.socket_mode, group: arguments.socket_group };
    settings.token_files = arguments.token_file;
    settings.hosts = arguments.host;
    settings.tls = arguments.tls_cert.zip(arguments.tls_key).map(|(certificate, key)| TlsFiles {
        certificate,
        key,
        client_ca: arguments.tls_client_ca,
    });
    settings.ops_listen = arguments.ops_listen;
    settings.sweep_every =
        Some(Duration::from_secs(60 * u64::from(arguments.sweep_every))).filter(|every| !every.is_zero());
    settings.max_connections = arguments.max_connections as usize;
    settings.drain = Duration::from_secs(arguments.drain.into());
    settings
}

/// Returns at the first signal. The second one ends the process at once.
async fn stopped() {
    interrupted().await;
    notify(NotifyState::Stopping);
    tokio::spawn(async {
        interrupted().await;
        std::process::exit(Outcome::Interrupted.status().into());
    });
}

/// Tells systemd, if it has started this process and wants to know (`Type=notify`).
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}
