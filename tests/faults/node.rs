//! A node of an authorization server: the library, or a service and the connections to it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cimd_cache::{Cache, Entry, Error, Expiry, Lookup, PutOutcome, Stats, SweepOutcome, Ticket};
use parking_lot::Mutex;
use serde_json::Value;
use serde_json::value::RawValue;
use support::http::{Answer, Client, encoded};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::UnixStream;

/// What a call may take: the builder's default.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);

/// Connections of a node: two for gets, two for puts and deletes, one for sweeps and what the host asks.
const EACH: usize = 2;
pub(crate) const CONNECTIONS: usize = 2 * EACH + 1;

/// The most connections to a service: a test's process may not have many more.
pub(crate) const CONNECTIONS_OF_CLIENTS: usize = 400;

/// A node as the tests have it.
pub(crate) fn node(url: &str) -> Node {
    let builder = Cache::builder().database_url(url).deadline(DEADLINE);
    builder.read_connections(EACH).write_connections(EACH).build().unwrap().into()
}

/// What the nodes of a scene are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Way {
    #[default]
    Library,
    Service,
}

impl Way {
    pub(crate) async fn nodes(self, nodes: Vec<Node>) -> Vec<Node> {
        match self {
            Self::Library => nodes,
            Self::Service => {
                let mut services = Vec::new();
                for node in nodes {
                    services.push(Node::service(node.cache).await);
                }
                services
            }
        }
    }
}

/// Has the library's calls, with the library's answers.
#[derive(Clone)]
pub(crate) struct Node {
    cache: Cache,
    service: Option<Arc<Service>>,
}

/// A service in this process, and connections to it.
struct Service {
    running: support::service::Service,
    /// Those that nobody uses now.
    idle: Mutex<Vec<Client>>,
}

impl From<Cache> for Node {
    fn from(cache: Cache) -> Self {
        Self { cache, service: None }
    }
}

impl Node {
    /// A service around a cache, on a socket of its own.
    async fn service(cache: Cache) -> Self {
        let running = support::service::Service::around(cache.clone(), |mut settings| {
            settings.max_connections = CONNECTIONS_OF_CLIENTS;
            settings
        });
        let service = Service { running: running.await, idle: Mutex::default() };
        Self { cache, service: Some(Arc::new(service)) }
    }

    /// Of a service.
    pub(crate) fn socket(&self) -> PathBuf {
        self.service.as_ref().unwrap().running.socket()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.cache.stats()
    }

    pub(crate) async fn get(&self, url: &str) -> Result<Lookup, Error> {
        let Some(service) = &self.service else { return self.cache.get(url).await };
        let answer = service.ask(&format!("GET /v1/document?client_id={}", encoded(url)), None).await?;
        let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&answer.body).unwrap();
        let text = |name: &str| serde_json::from_str::<String>(members[name].get()).unwrap();
        let ticket = text("ticket").into();
        if text("outcome") == "miss" {
            return Ok(Lookup::Miss(ticket));
        }
        let expires_at = OffsetDateTime::parse(&text("expires_at"), &Rfc3339).unwrap();
        Ok(Lookup::Hit(Entry {
            metadata: members["metadata"].get().to_owned(),
            expires_at: SystemTime::from(expires_at),
            fresh_for: Duration::from_millis(members["fresh_for_ms"].get().parse().unwrap()),
            ticket,
            is_near: false,
        }))
    }

    pub(crate) async fn put(
        &self,
        url: &str,
        metadata: &str,
        expiry: Expiry,
        ticket: Option<&Ticket>,
    ) -> Result<PutOutcome, Error> {
        let Some(service) = &self.service else { return self.cache.put(url, metadata, expiry, ticket).await };
        let Expiry::After(fresh_for) = expiry else { panic!("scenes give lifetimes") };
        let ticket = ticket.map_or_else(|| "none".to_owned(), |ticket| encoded(&ticket.to_string()));
        let (url, seconds) = (encoded(url), fresh_for.as_secs());
        let request = format!("PUT /v1/document?client_id={url}&ticket={ticket}&expires_in={seconds}");
        Ok(match service.ask(&request, Some(metadata)).await?.json()["outcome"].as_str().unwrap() {
            "stored" => PutOutcome::Stored,
            "superseded" => PutOutcome::Superseded,
            outcome => panic!("a put is {outcome}"),
        })
    }

    pub(crate) async fn delete(&self, url: &str) -> Result<bool, Error> {
        let Some(service) = &self.service else { return self.cache.delete(url).await };
        let answer = service.ask(&format!("DELETE /v1/document?client_id={}", encoded(url)), None).await?;
        Ok(answer.json()["had_document"].as_bool().unwrap())
    }

    pub(crate) async fn purge(&self) -> Result<(), Error> {
        let Some(service) = &self.service else { return self.cache.purge().await };
        service.ask("POST /v1/purge", None).await.map(drop)
    }

    pub(crate) async fn sweep(&self, limit: u32) -> Result<SweepOutcome, Error> {
        let Some(service) = &self.service else { return self.cache.sweep(limit).await };
        let swept: Value = service.ask(&format!("POST /v1/sweep?limit={limit}"), None).await?.json();
        let removed = swept["removed"].as_u64().unwrap().try_into().unwrap();
        Ok(SweepOutcome { removed, more: swept["more"].as_bool().unwrap() })
    }
}

impl Service {
    /// An answer, or what the problem says. A call that is given up takes its connection with it.
    async fn ask(&self, request: &str, body: Option<&str>) -> Result<Answer, Error> {
        let idle = self.idle.lock().pop();
        let mut client = match idle {
            Some(client) => client,
            None => {
                Client::new(UnixStream::connect(self.running.socket()).await.map_err(|_| Error::Unavailable)?)
            }
        };
        // One that ends without an answer is like a server that does.
        let answer = client.try_call(request, body).await.map_err(|_| Error::Unavailable)?;
        self.idle.lock().push(client);
        match answer.status {
            200 => Ok(answer),
            _ => Err(match answer.problem().1.as_str() {
                "unavailable" => Error::Unavailable,
                "timed-out" => Error::TimedOut,
                "storage" => Error::Storage,
                code => panic!("{request} is {code}"),
            }),
        }
    }
}
