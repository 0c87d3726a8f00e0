//! A sink that writes events into a table of PostgreSQL, each exactly once.
//!
//! A batch is one transaction: it locks the sink's row in the table `gateway_sinks`, compares where it believes the table to end with
//! what the row says, copies the events in, and moves the row on. So what is in the table and what the row says are one
//! thing: after a crash of the gateway, of the database or of the network between them, the row is read again and the sink goes on
//! behind what is there, whether or not the answer to the last COMMIT arrived. Two gateways on one row do not write the same
//! event twice either: the one that is behind finds that out and reads the row again.
//!
//! Data that the table refuses (a constraint, a trigger, SQLSTATE classes 22 and 23) is refused for good; everything else is an outage.

mod rows;
mod schema;
mod tls;

use super::target::{Failure, Outage, OutageKind, Row, Target};
use crate::config::PostgresConfig;
use gateway_storage::Offset;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, Transaction};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long one statement, or a connection being made, may take.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// The target of a PostgreSQL sink.
pub(super) struct Postgres {
    config: PostgresConfig,
    /// `None`: in the clear.
    tls: Option<MakeRustlsConnect>,
    /// The sink's name: the key of its row.
    name: Box<str>,
    /// Whose offsets they are: a consumer that was made anew counts in another log, or from elsewhere.
    generation: i64,
    connected: Option<Connected>,
}

struct Connected {
    client: Client,
    driver: Driver,
    /// Up to where the table has everything.
    next: Offset,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Postgres {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// The certificates of those that are trusted cannot be read.
    pub(super) fn new(name: &str, config: PostgresConfig) -> std::io::Result<Self> {
        let tls = tls::connector(&config.tls)?;
        Ok(Self { config, tls, name: name.into(), generation: 0, connected: None })
    }

    async fn connect(&self) -> Result<Connected, Outage> {
        let (client, driver) = match &self.tls {
            Some(tls) => self.config.connection.connect(tls.clone()).await.map(started),
            None => self.config.connection.connect(NoTls).await.map(started),
        }
        .map_err(|error| outage(&error))?;
        // Whatever fails from here on drops it, which ends the driver.
        let mut connected = Connected { client, driver, next: Offset::ZERO };
        let client = &mut connected.client;
        schema::prepare(client, &self.config).await.map_err(|error| outage(&error))?;
        let next =
            schema::position(client, &self.name, self.generation).await.map_err(|error| outage(&error))?;
        connected.next = next;
        Ok(connected)
    }

    /// Runs `work` in a transaction on the connection, which is given up when anything fails: what the database has then is not known.
    async fn transact(&mut self, rows: &[Row<'_>], next: Option<Offset>) -> Result<(), Failure> {
        let Some(mut connected) = self.connected.take() else {
            return Err(Outage::new(OutageKind::Connection, "not connected").into());
        };
        let work = write(&mut connected, &self.config.table, &self.name, self.generation, rows, next);
        match tokio::time::timeout(STATEMENT_TIMEOUT, work).await {
            Ok(Ok(())) => {
                connected.next = next.unwrap_or(connected.next);
                self.connected = Some(connected);
                Ok(())
            }
            Ok(Err(WriteError::Moved)) => Err(Outage::new(
                OutageKind::Configuration,
                "somebody else writes to this table for this sink",
            )
            .into()),
            Ok(Err(WriteError::Sql(error))) if is_about_data(&error) => {
                // The database has said no, so the transaction is over and the connection is good.
                if !connected.client.is_closed() {
                    self.connected = Some(connected);
                }
                Err(Failure::Refused(describe(&error)))
            }
            Ok(Err(WriteError::Sql(error))) => Err(outage(&error).into()),
            Err(_) => {
                let message = format!("no answer within {} s", STATEMENT_TIMEOUT.as_secs());
                Err(Outage::new(OutageKind::Timeout, message).into())
            }
        }
    }
}

type Driver = JoinHandle<Result<(), tokio_postgres::Error>>;

/// A connection is driven by a task of its own.
fn started<C>((client, connection): (Client, C)) -> (Client, Driver)
where
    C: Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
{
    (client, tokio::spawn(connection))
}

enum WriteError {
    Sql(tokio_postgres::Error),
    /// The row is not where this sink left it.
    Moved,
}

impl From<tokio_postgres::Error> for WriteError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sql(error)
    }
}

async fn write(
    connected: &mut Connected,
    table: &str,
    name: &str,
    generation: i64,
    rows: &[Row<'_>],
    next: Option<Offset>,
) -> Result<(), WriteError> {
    let expected = connected.next;
    let transaction = connected.client.transaction().await?;
    if schema::lock(&transaction, name, generation).await? != Some(expected) {
        return Err(WriteError::Moved);
    }
    let news = match next {
        Some(_) => rows,
        // Late ones may be there already.
        None => &missing(&transaction, table, rows).await?,
    };
    rows::copy(&transaction, table, news).await?;
    if let Some(next) = next {
        schema::advance(&transaction, name, next).await?;
    }
    transaction.commit().await?;
    Ok(())
}

async fn missing<'a>(
    transaction: &Transaction<'_>,
    table: &str,
    rows: &[Row<'a>],
) -> Result<Vec<Row<'a>>, tokio_postgres::Error> {
    let mut missing = Vec::new();
    for row in rows {
        if !rows::contains(transaction, table, row.offset).await? {
            missing.push(*row);
        }
    }
    Ok(missing)
}

impl Target for Postgres {
    async fn open(&mut self, generation: u64) -> Result<Option<Offset>, Outage> {
        self.connected = None;
        self.generation = generation.cast_signed();
        let connected = match tokio::time::timeout(STATEMENT_TIMEOUT, self.connect()).await {
            Ok(connected) => connected?,
            Err(_) => return Err(Outage::new(OutageKind::Timeout, "the database does not answer")),
        };
        let next = connected.next;
        self.connected = Some(connected);
        Ok(Some(next))
    }

    async fn write(&mut self, rows: &[Row<'_>], next: Offset) -> Result<(), Failure> {
        self.transact(rows, Some(next)).await
    }

    async fn write_late(&mut self, row: &Row<'_>) -> Result<(), Failure> {
        self.transact(std::slice::from_ref(row), None).await
    }

    async fn lost(&mut self) -> Outage {
        match &mut self.connected {
            Some(connected) => match (&mut connected.driver).await {
                Ok(Err(error)) => outage(&error),
                Ok(Ok(())) | Err(_) => Outage::new(OutageKind::Connection, "the connection was closed"),
            },
            None => Outage::new(OutageKind::Connection, "not connected"),
        }
    }
}

/// Whether the database refuses what it was given, rather than us or the moment.
fn is_about_data(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| matches!(code.code().get(..2), Some("22" | "23" | "P0")))
}

fn outage(error: &tokio_postgres::Error) -> Outage {
    let kind = match error.code() {
        None => OutageKind::Connection,
        Some(code) if *code == SqlState::TOO_MANY_CONNECTIONS => OutageKind::Busy,
        Some(code) => match code.code().get(..2) {
            Some("08" | "57") => OutageKind::Connection,
            // Credentials, a database or a table that is not there, rights.
            Some("28" | "3D" | "3F" | "42") => OutageKind::Configuration,
            Some("40" | "53" | "55") => OutageKind::Busy,
            _ => OutageKind::Server,
        },
    };
    Outage::new(kind, describe(error))
}

fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{}: {}", error.code().code(), error.message()),
        None => {
            let source = std::error::Error::source(error).map(|source| format!(": {source}"));
            format!("{error}{}", source.unwrap_or_default())
        }
    }
}
