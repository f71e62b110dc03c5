//! The authorization endpoint of a server whose clients are known by URLs: what it does with the cache.
//!
//!     make demo                      # shows that Postgres is there
//!     DATABASE_URL=postgres://cimd_cache_app@localhost/auth cargo run -p cimd-cache --example login
//!     curl 'http://localhost:3000/authorize?client_id=https%3A%2F%2Fvscode.dev%2Foauth%2Fclient-metadata.json&redirect_uri=…'
//!
//! Everything that is about the cache is here as a real server has it. What is left out is said where it is
//! left out.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use cimd_cache::{Cache, Error, Expiry, Lookup};
use serde_json::{Value, json};

/// The most of a document that is read (draft-ietf-oauth-client-id-metadata-document, section 6.6).
const DOCUMENT_BYTES: u64 = 5 * 1_024;

/// How long a document is kept if its origin does not say, and at most.
const USUAL_LIFETIME: Duration = Duration::from_secs(3_600);
const LONGEST_LIFETIME: Duration = Duration::from_secs(86_400);

#[derive(serde::Deserialize)]
struct Login {
    client_id: String,
    redirect_uri: String,
}

type Refusal = (StatusCode, Json<Value>);

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::var("DATABASE_URL").context("set DATABASE_URL to the database of the cache")?;
    // A login waits for a get: a short deadline. Whatever takes longer is `timed-out`.
    let cache = Cache::builder().database_url(&url).deadline(Duration::from_millis(500)).build()?;
    // At startup, so that a schema that is missing is found by whoever deploys and not by whoever logs in.
    cache.check().await?;

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    let router = Router::new().route("/authorize", get(authorize)).with_state(cache.clone());
    axum::serve(listener, router)
        .with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) })
        .await?;
    cache.close().await;
    Ok(())
}

/// A real server goes on from here: it authenticates the user, asks for consent, and redirects with a code.
async fn authorize(State(cache): State<Cache>, Query(login): Query<Login>) -> Result<Json<Value>, Refusal> {
    let document = client(&cache, &login.client_id).await?;
    let document: Value = serde_json::from_str(&document).map_err(|_| refusal("the document is not JSON"))?;
    let uris = document["redirect_uris"].as_array().map_or(&[][..], Vec::as_slice);
    // Compared as strings (RFC 9700 section 2.1), and never redirected to before that.
    if !uris.iter().any(|uri| *uri == login.redirect_uri) {
        return Err(refusal("the client does not have this redirect_uri"));
    }
    Ok(Json(json!({ "client_name": document["client_name"], "redirect_uri": login.redirect_uri })))
}

/// The metadata of a client: from the cache, else from its origin.
async fn client(cache: &Cache, client_id: &str) -> Result<String, Refusal> {
    // A miss comes with a ticket, which says when the fetch that follows began.
    let ticket = match cache.get(client_id).await {
        Ok(Lookup::Hit(entry)) => return Ok(entry.metadata),
        Ok(Lookup::Miss(ticket)) => Some(ticket),
        Err(Error::InvalidUrl(text)) => return Err(refusal(&text)),
        // The choice of this server: while the cache is away it fetches for each login, and stores nothing.
        // Another may refuse logins instead. A real one bounds how many fetches there are at once.
        Err(_) => None,
    };
    let (url, fetched) = (client_id.to_owned(), tokio::task::spawn_blocking);
    let fetched = fetched(move || fetch_and_validate(&url)).await.map_err(|_| refusal("the fetch failed"))?;
    // Nothing is stored of a failure (section 4.4): the next login tries again.
    let (metadata, lifetime) = fetched.map_err(|error| refusal(&format!("{error:#}")))?;
    if let Some(ticket) = ticket {
        match cache.put(client_id, &metadata, Expiry::After(lifetime), Some(&ticket)).await {
            // Superseded: somebody has fetched later, or deleted the client meanwhile. What was fetched here
            // is good for this login, and for no other one.
            Ok(_) => {}
            // It passed our checks and not the cache's: no JSON object, two members of one name, or the like.
            Err(Error::InvalidMetadata(text)) => return Err(refusal(&text)),
            // The login does not wait for the cache to come back.
            Err(_) => {}
        }
    }
    Ok(metadata)
}

/// Fetches a document and checks what the draft asks for; with it comes how long it may be kept.
///
/// A real server must not let clients choose which addresses it connects to: it refuses private ones after
/// the name is resolved (section 6.5 of the draft).
fn fetch_and_validate(client_id: &str) -> Result<(String, Duration)> {
    ensure!(client_id.starts_with("https://"), "the client_id is not an https URL");
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(5)))
        .max_redirects(0)
        .https_only(true);
    let mut response = ureq::Agent::from(config.build()).get(client_id).call()?;
    ensure!(response.status() == 200, "the client's origin answered {}", response.status());
    let cache_control = response.headers().get("cache-control").and_then(|value| value.to_str().ok());
    let lifetime = lifetime(cache_control.unwrap_or_default());
    let metadata = response.body_mut().with_config().limit(DOCUMENT_BYTES).read_to_string()?;
    let document: Value = serde_json::from_str(&metadata).context("the document is not JSON")?;
    ensure!(document["client_id"] == client_id, "the document is another client's");
    if document.get("client_secret").is_some() {
        bail!("a public document must not have a client_secret");
    }
    Ok((metadata, lifetime))
}

/// The freshness lifetime that the origin allows (RFC 9111 section 5.2.2), within this server's bounds. 0 is
/// stored too, and misses: the next login fetches again.
fn lifetime(cache_control: &str) -> Duration {
    let directives: Vec<_> =
        cache_control.split(',').map(|directive| directive.trim().to_lowercase()).collect();
    if directives.iter().any(|directive| directive == "no-store" || directive == "no-cache") {
        return Duration::ZERO;
    }
    let max_age = directives.iter().find_map(|directive| directive.strip_prefix("max-age=")?.parse().ok());
    max_age.map_or(USUAL_LIFETIME, Duration::from_secs).min(LONGEST_LIFETIME)
}

fn refusal(text: &str) -> Refusal {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_client", "error_description": text })))
}
