//! The cache at work: two nodes, one Postgres, real documents. Every line it prints is checked before it is
//! printed.

mod service;

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cimd_cache::{Cache, Error, Expiry, Lookup, PutOutcome, Schema, Ticket, migrations};
use cimd_cache_private_postgres::PrivatePostgres;
use serde_json::Value;
use tokio_postgres::NoTls;

use crate::outcome::{Failed, Outcome, print};

const HOUR: Expiry = Expiry::After(Duration::from_secs(3_600));

pub(super) async fn run() -> Result<Outcome, Failed> {
    print("A cache for OAuth client metadata, shared by two nodes.\n\n")?;
    let started = Instant::now();
    let postgres = tokio::task::spawn_blocking(PrivatePostgres::start).await;
    let postgres = postgres.map_err(anyhow::Error::from).and_then(|started| started)?;
    report("a private Postgres runs, for this demo only", started)?;
    let shown = Demo::set_up(&postgres).await;
    let shown = match shown {
        Ok(demo) => demo.show().await,
        Err(error) => Err(error),
    };
    let since = Instant::now();
    postgres.stop();
    shown?;
    print("\n")?;
    report("the private Postgres is stopped, and its files are removed", since)?;
    print("\nEach line was checked before it was printed.\n")?;
    Ok(Outcome::Done)
}

fn report(text: impl Display, since: Instant) -> Result<(), Failed> {
    print(format!("{:>9.2} ms  {text}\n", since.elapsed().as_secs_f64() * 1e3))
}

fn line(text: impl Display, since: Instant) -> Result<()> {
    report(text, since).map_err(anyhow::Error::from)
}

fn heading(text: &str) -> Result<()> {
    print(format!("\n{text}\n")).map_err(anyhow::Error::from)
}

struct Demo {
    /// Two nodes of an authorization server: each its own sandbox and its own connections.
    a: Cache,
    b: Cache,
    /// For what no node may do: looking into the table and changing its times.
    owner: tokio_postgres::Client,
}

impl Demo {
    async fn set_up(postgres: &PrivatePostgres) -> Result<Self> {
        let since = Instant::now();
        let (owner, connection) =
            tokio_postgres::connect(&postgres.url("postgres", "postgres"), NoTls).await?;
        tokio::spawn(connection);
        owner.batch_execute(migrations::ROLES).await?;
        let migrated =
            migrations::migrate(&postgres.url("cimd_cache_owner", "postgres"), &Schema::default()).await?;
        ensure!(migrated.applied.len() as u32 == migrated.version, "not every migration was applied");
        line(format!("the roles and the schema are made (version {})", migrated.version), since)?;

        let url = postgres.url("cimd_cache_app", "postgres");
        let since = Instant::now();
        let node = || Cache::builder().database_url(&url).build();
        let (a, b) = (node()?, node()?);
        line("node A and node B each compile the sandboxed component", since)?;
        let since = Instant::now();
        let ready = a.check().await?;
        ensure!(!ready.privileged, "the nodes' role has rights that it does not need");
        b.check().await?;
        line(format!("both are ready, on Postgres {}, as {}", ready.server_version, ready.role), since)?;
        Ok(Self { a, b, owner })
    }

    async fn show(&self) -> Result<()> {
        self.store_and_share().await?;
        self.expire().await?;
        self.replace().await?;
        self.supersede().await?;
        self.delete().await?;
        self.purge().await?;
        self.sweep().await?;
        self.refuse().await?;
        service::show(&self.a, &self.b).await
    }

    async fn store_and_share(&self) -> Result<()> {
        heading("Node A meets clients it has not seen: it misses, fetches, stores, and from then on hits.")?;
        for document in cimd_cache_documents::ALL.map(|document| document.text) {
            let id = client_id(document)?;
            let since = Instant::now();
            let ticket = miss(&self.a, &id).await?;
            line(format!("A misses  {id}"), since)?;
            let since = Instant::now();
            store(&self.a, &id, document, HOUR, &ticket).await?;
            line("A stores  it, for an hour", since)?;
            let since = Instant::now();
            hit(&self.a, &id, document).await?;
            line("A hits    it", since)?;
        }
        heading("Node B never fetched them, and hits what A stored.")?;
        for document in cimd_cache_documents::ALL.map(|document| document.text) {
            let id = client_id(document)?;
            let since = Instant::now();
            hit(&self.b, &id, document).await?;
            line(format!("B hits    {id}"), since)?;
        }
        Ok(())
    }

    async fn expire(&self) -> Result<()> {
        heading("A document is never served past its expiry, whether or not its row is still there.")?;
        let (id, document) = example("expires");
        let since = Instant::now();
        let ticket = miss(&self.a, &id).await?;
        store(&self.a, &id, &document, Expiry::After(Duration::from_secs(2)), &ticket).await?;
        hit(&self.b, &id, &document).await?;
        line("A stores a document for two seconds, and B hits it", since)?;
        while let Lookup::Hit(entry) = self.b.get(&id).await? {
            ensure!(since.elapsed() < Duration::from_secs(10), "it did not expire");
            tokio::time::sleep(entry.fresh_for).await;
        }
        ensure!(self.rows(&id).await? == 1, "the row is gone");
        line("the time is over: B misses, though the row is still in the table", since)
    }

    async fn replace(&self) -> Result<()> {
        heading("A newer document replaces an older one.")?;
        let (id, old) = example("replaced");
        let new = old.replace("Example", "Renamed Example");
        let since = Instant::now();
        store(&self.a, &id, &old, HOUR, &miss(&self.a, &id).await?).await?;
        let ticket = hit(&self.b, &id, &old).await?;
        store(&self.b, &id, &new, HOUR, &ticket).await?;
        hit(&self.a, &id, &new).await?;
        line("B refreshes what A stored, and A hits the new document", since)
    }

    async fn supersede(&self) -> Result<()> {
        heading("An older document never replaces a newer one, however slow its fetch was.")?;
        let (id, old) = example("superseded");
        let new = old.replace("Example", "Example with new keys");
        let since = Instant::now();
        let slow = miss(&self.a, &id).await?;
        let quick = miss(&self.b, &id).await?;
        line("A begins to fetch, then B does, and the client publishes new keys in between", since)?;
        let since = Instant::now();
        store(&self.b, &id, &new, HOUR, &quick).await?;
        line("B is done first and stores the new document", since)?;
        let since = Instant::now();
        let stored = self.a.put(&id, &old, HOUR, Some(&slow)).await?;
        ensure!(stored == PutOutcome::Superseded, "the older document was stored");
        hit(&self.a, &id, &new).await?;
        line("A comes late with the old one: superseded, and all nodes go on hitting the new one", since)
    }

    async fn delete(&self) -> Result<()> {
        heading("A deleted document is not resurrected by an in-flight fetch.")?;
        let (id, document) = example("deleted");
        let since = Instant::now();
        store(&self.a, &id, &document, HOUR, &miss(&self.a, &id).await?).await?;
        let under_way = hit(&self.a, &id, &document).await?;
        ensure!(self.b.delete(&id).await?, "there was nothing to delete");
        miss(&self.a, &id).await?;
        line("B deletes the document while A fetches it anew; A misses", since)?;
        let since = Instant::now();
        let stored = self.a.put(&id, &document, HOUR, Some(&under_way)).await?;
        ensure!(stored == PutOutcome::Superseded, "the deleted document was stored");
        let ticket = miss(&self.a, &id).await?;
        line("A's fetch ends: superseded, it still misses", since)?;
        let since = Instant::now();
        store(&self.a, &id, &document, HOUR, &ticket).await?;
        line("a fetch that began after the delete is stored", since)
    }

    async fn purge(&self) -> Result<()> {
        heading("Everything can be purged at once.")?;
        let document = cimd_cache_documents::ALL[0].text;
        let id = client_id(document)?;
        let in_flight = hit(&self.a, &id, document).await?;
        let since = Instant::now();
        self.b.purge().await?;
        line("B purges all documents, by one write", since)?;
        let since = Instant::now();
        for document in cimd_cache_documents::ALL.map(|document| document.text) {
            miss(&self.a, &client_id(document)?).await?;
        }
        line(format!("A misses all {} clients", cimd_cache_documents::ALL.len()), since)?;
        let since = Instant::now();
        let stored = self.a.put(&id, document, HOUR, Some(&in_flight)).await?;
        ensure!(stored == PutOutcome::Superseded, "a purged document was stored");
        miss(&self.b, &id).await?;
        line("a fetch from before the purge is superseded", since)
    }

    async fn sweep(&self) -> Result<()> {
        heading("Rows that nobody can get any more are swept.")?;
        let since = Instant::now();
        let swept = self.a.sweep(1_000).await?;
        ensure!(swept.removed == 0 && !swept.more, "rows were swept too early");
        line("nothing is swept yet: an in-flight fetch may still need the rows to lose against", since)?;
        let age = "update cimd_cache.client_id_metadata
                   set expires_at = expires_at - interval '2 hours', fetched_at = fetched_at - interval '2 hours'";
        let aged = self.owner.execute(age, &[]).await?;
        let since = Instant::now();
        let swept = self.a.sweep(1_000).await?;
        let left: i64 = self.count("select count(*) from cimd_cache.client_id_metadata", &[]).await?;
        ensure!(u64::from(swept.removed) == aged && left == 0, "rows were left over");
        line(format!("the owner makes the {aged} rows two hours older, and A sweeps them all"), since)
    }

    async fn refuse(&self) -> Result<()> {
        heading("Without a database no call pretends to work.")?;
        let nowhere = Cache::builder().build()?;
        let (id, document) = example("nowhere");
        let since = Instant::now();
        let refusals = [
            nowhere.get(&id).await.err(),
            nowhere.put(&id, &document, HOUR, None).await.err(),
            nowhere.delete(&id).await.err(),
            nowhere.purge().await.err(),
            nowhere.sweep(1).await.err(),
        ];
        ensure!(refusals.iter().all(|error| *error == Some(Error::NotConfigured)), "a call was answered");
        line("get, put, delete, purge and sweep are each refused: not configured", since)
    }

    async fn rows(&self, id: &str) -> Result<i64> {
        self.count("select count(*) from cimd_cache.client_id_metadata where url = $1", &[&id]).await
    }

    async fn count(&self, sql: &str, of: &[&(dyn tokio_postgres::types::ToSql + Sync)]) -> Result<i64> {
        Ok(self.owner.query_one(sql, of).await?.try_get(0)?)
    }
}

fn example(name: &str) -> (String, String) {
    let id = format!("https://{name}.example/client-metadata.json");
    let document = serde_json::json!({
        "client_id": id,
        "client_name": "Example",
        "redirect_uris": [format!("https://{name}.example/callback")],
    });
    (id, document.to_string())
}

fn client_id(document: &str) -> Result<String> {
    let document: Value = serde_json::from_str(document)?;
    Ok(document["client_id"].as_str().context("a document without a client_id")?.to_owned())
}

async fn miss(node: &Cache, id: &str) -> Result<Ticket> {
    match node.get(id).await? {
        Lookup::Miss(ticket) => Ok(ticket),
        Lookup::Hit(_) => bail!("a hit where there should be a miss: {id}"),
    }
}

async fn hit(node: &Cache, id: &str, document: &str) -> Result<Ticket> {
    match node.get(id).await? {
        Lookup::Hit(entry) => {
            let same =
                serde_json::from_str::<Value>(&entry.metadata)? == serde_json::from_str::<Value>(document)?;
            ensure!(same, "the document is not the one that was stored: {id}");
            Ok(entry.ticket)
        }
        Lookup::Miss(_) => bail!("a miss where there should be a hit: {id}"),
    }
}

async fn store(node: &Cache, id: &str, document: &str, expiry: Expiry, ticket: &Ticket) -> Result<()> {
    ensure!(
        node.put(id, document, expiry, Some(ticket)).await? == PutOutcome::Stored,
        "it was not stored: {id}"
    );
    Ok(())
}
