//! The worker processes: starting them, telling them, hearing them, and ending them.

use std::io::{self, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::frames::{self, Assignment, FrameError, News, Order};
use crate::plan::Plan;
use crate::scenario::LeanClients;

/// A worker that tells nothing for so long has failed: each tells how far it is four times a second.
const SILENCE: Duration = Duration::from_secs(30);

/// News that may wait to be heard.
const LINE: usize = 64;

/// How long workers may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why the workers are of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum TeamError {
    /// The program could not be started again.
    #[error("worker {number} could not be started: {source}")]
    Start {
        /// Which worker, from 1.
        number: usize,
        /// What the system said.
        source: io::Error,
    },
    /// A worker's process ended, or its pipe broke.
    #[error("worker {number} of {count} (process {pid}) died: {how}")]
    Died {
        /// Which worker, from 1.
        number: usize,
        /// How many there are.
        count: usize,
        /// Its process.
        pid: u32,
        /// Its exit status or signal.
        how: String,
    },
    /// A worker cannot go on.
    #[error("worker {number} of {count} failed: {why}")]
    Failed {
        /// Which worker, from 1.
        number: usize,
        /// How many there are.
        count: usize,
        /// In its own words.
        why: String,
    },
    /// A worker lives and tells nothing.
    #[error("worker {number} of {count} (process {pid}) has told nothing for {SILENCE:?}")]
    Silent {
        /// Which worker, from 1.
        number: usize,
        /// How many there are.
        count: usize,
        /// Its process.
        pid: u32,
    },
}

/// The workers of one run. Dropping it ends them all.
pub(crate) struct Team {
    workers: Vec<Member>,
    news: mpsc::Receiver<(usize, Result<News, FrameError>)>,
}

struct Member {
    child: Child,
    /// Closed when it is told to leave.
    orders: Option<ChildStdin>,
    heard: Instant,
}

impl Team {
    /// Starts the workers and gives each its part.
    pub(crate) fn start(
        plan: &Plan,
        lean: &LeanClients,
        devices: SocketAddr,
        subscribers: SocketAddr,
    ) -> Result<Self, TeamError> {
        let (told, news) = mpsc::channel(LINE);
        let mut team = Team { workers: Vec::new(), news };
        // Those that have a cohort to themselves are no subscribers.
        let count = lean.workers as usize;
        let checkers =
            (0..plan.scenario.subscribers.len()).filter(|place| plan.scenario.is_in_worker(*place));
        let checkers: Vec<usize> = checkers.collect();
        for number in 0..lean.workers_in_all() as usize {
            let failed = |source| TeamError::Start { number: number + 1, source };
            let member = team.hire(number, told.clone()).map_err(failed)?;
            team.workers.push(member);
            let part = Assignment {
                number: number as u32,
                scenario: plan.scenario.text.0.to_string(),
                variant: plan.scenario.variant,
                devices,
                subscribers,
                seed: plan.seed,
                epoch: plan.epoch,
                // The last worker gets the first of them, since it is not the one that begins.
                checkers: match count.checked_sub(number + 1) {
                    Some(turn) => checkers.iter().copied().skip(turn).step_by(count).collect(),
                    None => Vec::new(),
                },
            };
            team.tell_one(number, &Order::Assign(Box::new(part)))?;
        }
        Ok(team)
    }

    fn hire(
        &self,
        number: usize,
        told: mpsc::Sender<(usize, Result<News, FrameError>)>,
    ) -> io::Result<Member> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // An interrupt from the terminal is the coordinator's to act on; workers end when it does.
            .process_group(0)
            .spawn()?;
        let (Some(orders), Some(news)) = (child.stdin.take(), child.stdout.take()) else {
            let _ = child.kill();
            return Err(io::Error::other("it has no pipes"));
        };
        // Not joined: it ends with the worker.
        thread::Builder::new().name("worker-news".to_owned()).spawn(move || {
            let mut news = BufReader::new(news);
            loop {
                let one = frames::read(&mut news);
                let is_last = one.is_err();
                if told.blocking_send((number, one)).is_err() || is_last {
                    return;
                }
            }
        })?;
        Ok(Member { child, orders: Some(orders), heard: Instant::now() })
    }

    pub(crate) fn len(&self) -> usize {
        self.workers.len()
    }

    /// Tells all of them.
    pub(crate) fn tell(&mut self, order: &Order) -> Result<(), TeamError> {
        (0..self.workers.len()).try_for_each(|number| self.tell_one(number, order))
    }

    fn tell_one(&mut self, number: usize, order: &Order) -> Result<(), TeamError> {
        let Some(worker) = self.workers.get_mut(number) else { return Ok(()) };
        let told = worker.orders.as_mut().map_or(Err(FrameError::Gone), |pipe| frames::write(pipe, order));
        told.map_err(|error| self.died(number, &error))
    }

    /// The next news within so long, if there are any.
    pub(crate) async fn hear(&mut self, within: Duration) -> Result<Option<(usize, News)>, TeamError> {
        let Ok(Some((number, news))) = tokio::time::timeout(within, self.news.recv()).await else {
            return self.find_silent().map_or(Ok(None), Err);
        };
        let count = self.workers.len();
        match news {
            Ok(News::Failed(why)) => Err(TeamError::Failed { number: number + 1, count, why }),
            Ok(news) => {
                if let Some(worker) = self.workers.get_mut(number) {
                    worker.heard = Instant::now();
                }
                self.find_silent().map_or(Ok(Some((number, news))), Err)
            }
            Err(error) => Err(self.died(number, &error)),
        }
    }

    /// Tells them to leave, and ends those that do not.
    pub(crate) async fn dismiss(mut self) {
        // One that is gone already has left.
        let _ = self.tell(&Order::Leave);
        for worker in &mut self.workers {
            worker.orders = None;
        }
        let until = Instant::now() + FAREWELL;
        while Instant::now() < until && self.workers.iter_mut().any(is_alive) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn find_silent(&self) -> Option<TeamError> {
        let count = self.workers.len();
        let mut workers = self.workers.iter().enumerate();
        let (number, worker) = workers.find(|(_, worker)| worker.heard.elapsed() >= SILENCE)?;
        Some(TeamError::Silent { number: number + 1, count, pid: worker.child.id() })
    }

    /// A worker's pipe broke: what became of its process.
    fn died(&mut self, number: usize, error: &FrameError) -> TeamError {
        let count = self.workers.len();
        let Some(worker) = self.workers.get_mut(number) else {
            return TeamError::Died { number: number + 1, count, pid: 0, how: error.to_string() };
        };
        let pid = worker.child.id();
        // Its end of the pipe is closed, so it is gone or of no use. One that is ending already keeps its own status.
        let _ = worker.child.kill();
        let how = worker.child.wait().map_or_else(|_| error.to_string(), |status| status.to_string());
        TeamError::Died { number: number + 1, count, pid, how }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            worker.orders = None;
            if is_alive(worker) {
                let _ = worker.child.kill();
            }
            let _ = worker.child.wait();
        }
    }
}

fn is_alive(worker: &mut Member) -> bool {
    matches!(worker.child.try_wait(), Ok(None))
}
