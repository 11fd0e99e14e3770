//! Answers to questions about this host's present state.
//!
//! An answer is produced in a thread of its own from a [`Scene`] and handles of the kernel's tables, and sent in a
//! stream of its own: neither a long answer nor a slow reader holds the main loop up. Rows leave in chunks of
//! bounded size, few of which wait at a time.

use crate::capture::{Next, Subscriber};
use crate::flows::{self, SharedLedger};
use crate::scene::Scene;
use crate::sessions::{self, Ends};
use crate::tables::{self, PortRow};
use crate::{mappings, metering};
use dataplane::SessionTables;
use model::MeteringLabelId;
use model::capture::{CaptureRow, Count};
use model::question::{Question, SessionFilter};
use model::trace::WalkAnswer;
use proto::AnswerPart;
use proto::controller_client::ControllerClient;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// Bytes of rows sent together; the last row may go beyond.
const CHUNK_LEN: usize = 48 << 10;
/// Chunks that wait to be sent.
const CHUNKS_MAX: usize = 4;
/// Answers given at a time; further questions are refused.
const ANSWERS_MAX: usize = 8;
/// Between two counts of a capture.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// Rows of a capture that wait for more of them leave after this.
const PATIENCE: Duration = Duration::from_millis(10);
/// Captures at a time, which take none of the others' room.
const CAPTURES_MAX: usize = 32;

/// What an answer is made from.
pub(crate) struct Materials {
    pub(crate) scene: Scene,
    pub(crate) sessions: SessionTables,
    pub(crate) ports: Vec<PortRow>,
    pub(crate) ledger: SharedLedger,
    /// What crossed gateways, by metering label.
    pub(crate) metered: BTreeMap<MeteringLabelId, metering::Count>,
    /// Of [`Question::Walk`].
    pub(crate) walked: Option<WalkAnswer>,
    /// Of [`Question::Capture`]; none: nothing of what it looks at is here.
    pub(crate) capture: Option<Subscriber>,
}

/// Gives answers.
#[derive(Clone, Debug)]
pub(crate) struct Answerer {
    permits: Arc<Semaphore>,
    capture_permits: Arc<Semaphore>,
}

impl Default for Answerer {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(ANSWERS_MAX)),
            capture_permits: Arc::new(Semaphore::new(CAPTURES_MAX)),
        }
    }
}

impl Answerer {
    /// Begins to answer and returns at once. `materials` are taken only if the question can be answered.
    pub(crate) fn answer(
        &self,
        client: ControllerClient<Channel>,
        host: &str,
        asked: &proto::Question,
        materials: impl FnOnce(&Question) -> Result<Materials, Unanswered>,
    ) {
        let (parts, queue) = mpsc::channel(CHUNKS_MAX);
        let first = AnswerPart { host_name: host.to_owned(), number: asked.number, ..AnswerPart::default() };
        tokio::spawn(send(client, queue));
        let refused = |refused: String| AnswerPart { refused, ..first.clone() };
        let question: Question = match serde_json::from_slice(&asked.question) {
            Ok(question) => question,
            Err(error) => {
                // The queue is new, so there is room; the connection may be gone, and the asker with it.
                let _ =
                    parts.try_send(refused(format!("its agent does not understand the question: {error}")));
                return;
            }
        };
        let (permits, enough) = match question {
            Question::Capture(_) => (&self.capture_permits, "it has too many captures"),
            _ => (&self.permits, "it has too many questions to answer"),
        };
        let Ok(permit) = Arc::clone(permits).try_acquire_owned() else {
            let _ = parts.try_send(refused(enough.to_owned()));
            return;
        };
        let _ = parts.try_send(first.clone());
        let materials = match materials(&question) {
            Ok(materials) => materials,
            Err(error) => {
                let _ = parts.try_send(refused(crate::chain(&error)));
                return;
            }
        };
        tokio::task::spawn_blocking(move || {
            let mut rows = Rows::new(|chunk| {
                let part = AnswerPart { rows: chunk, ..AnswerPart::default() };
                match parts.blocking_send(part) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            });
            let told = tell(&question, &materials, &mut rows);
            if let Err(error) = told {
                tracing::warn!(error = crate::chain(&error), "question not answered");
                let refused = crate::chain(&error);
                let _ = parts.blocking_send(AnswerPart { refused, ..AnswerPart::default() });
            }
            drop(permit);
        });
    }
}

async fn send(mut client: ControllerClient<Channel>, queue: mpsc::Receiver<AnswerPart>) {
    if let Err(status) = client.answer(ReceiverStream::new(queue)).await {
        tracing::debug!(reason = status.message(), "answer not taken");
    }
}

/// Why a question has no whole answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error("its tables cannot be read")]
    Tables(#[from] dataplane::Error),
    #[error("a row cannot be written")]
    Row(#[from] serde_json::Error),
    #[error("the programs that tell of packets cannot be put in place; its log says why")]
    NotLooking,
    /// What is wrong with the request.
    #[error("{0}")]
    Request(String),
}

/// Collects rows into chunks and passes those on.
pub(crate) struct Rows<F> {
    chunk: Vec<u8>,
    pass_on: F,
}

impl<F: FnMut(Vec<u8>) -> ControlFlow<()>> Rows<F> {
    pub(crate) fn new(pass_on: F) -> Self {
        Self { chunk: Vec::with_capacity(CHUNK_LEN + 1024), pass_on }
    }

    /// Break: nobody wants more.
    pub(crate) fn push(&mut self, row: &impl Serialize) -> Result<ControlFlow<()>, serde_json::Error> {
        serde_json::to_writer(&mut self.chunk, row)?;
        self.chunk.push(b'\n');
        Ok(if self.chunk.len() < CHUNK_LEN { ControlFlow::Continue(()) } else { self.flush() })
    }

    pub(crate) fn flush(&mut self) -> ControlFlow<()> {
        if self.chunk.is_empty() {
            return ControlFlow::Continue(());
        }
        let next = Vec::with_capacity(CHUNK_LEN + 1024);
        (self.pass_on)(std::mem::replace(&mut self.chunk, next))
    }
}

fn tell<F: FnMut(Vec<u8>) -> ControlFlow<()>>(
    question: &Question,
    materials: &Materials,
    rows: &mut Rows<F>,
) -> Result<(), Unanswered> {
    let Materials { scene, .. } = materials;
    match question {
        Question::Sessions(filter) | Question::EndSessions(filter) => {
            let tables = &materials.sessions;
            let ending = matches!(question, Question::EndSessions(_)).then_some(tables);
            tell_sessions(tables.rows(), filter, scene, ending, rows)?;
        }
        Question::Mappings(filter) => {
            let now_ns = dataplane::clock_ns();
            mappings::tell(materials.sessions.mappings(), filter, scene, now_ns, rows)?;
        }
        Question::Fdb(filter) => push_all(tables::fdb(scene, filter, Instant::now()), rows)?,
        Question::Neighbors(filter) => push_all(tables::neighbors(scene, filter, Instant::now()), rows)?,
        Question::Flows(filter) => {
            push_all(flows::flows(scene, &materials.sessions, &materials.ledger, filter)?, rows)?;
        }
        Question::Ports => push_all(&materials.ports, rows)?,
        Question::Metering(filter) => {
            let wanted = materials.metered.iter().filter(|(id, _)| filter.label.is_none_or(|of| of == **id));
            let row = |(id, count): (&MeteringLabelId, &metering::Count)| metering::Row {
                host: &scene.host,
                label_id: *id,
                count: *count,
            };
            push_all(wanted.map(row), rows)?;
        }
        Question::Walk(_) => push_all(&materials.walked, rows)?,
        Question::Capture(_) => {
            if let Some(subscriber) = &materials.capture {
                tell_capture(subscriber, rows)?;
            }
        }
    }
    let _ = rows.flush();
    Ok(())
}

fn push_all<F: FnMut(Vec<u8>) -> ControlFlow<()>>(
    all: impl IntoIterator<Item = impl Serialize>,
    rows: &mut Rows<F>,
) -> Result<(), Unanswered> {
    for row in all {
        if rows.push(&row)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Tells of the sessions that are wanted, and ends them if `ending`.
pub(crate) fn tell_sessions<F: FnMut(Vec<u8>) -> ControlFlow<()>>(
    sessions: impl Iterator<Item = Result<dataplane::SessionRow, dataplane::Error>>,
    filter: &SessionFilter,
    scene: &Scene,
    ending: Option<&SessionTables>,
    rows: &mut Rows<F>,
) -> Result<(), Unanswered> {
    let now_ns = dataplane::clock_ns();
    let mut left = filter.limit.unwrap_or(u64::MAX);
    for session in sessions {
        let session = session?;
        let ends = Ends::of(&session, scene);
        if !sessions::is_wanted(&session, &ends, filter, scene) {
            continue;
        }
        if left == 0 {
            break;
        }
        left -= 1;
        if let Some(tables) = ending
            && !tables.end(&session)?
        {
            continue;
        }
        if rows.push(&sessions::row(&session, &ends, scene, now_ns))?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Tells of packets as they pass, until nobody wants more; and when it begins and every second, how many it told of.
fn tell_capture<F: FnMut(Vec<u8>) -> ControlFlow<()>>(
    subscriber: &Subscriber,
    rows: &mut Rows<F>,
) -> Result<(), Unanswered> {
    let view = &subscriber.view;
    let (mut seen, mut count_at, mut clock_ns) = (0, Instant::now(), 0);
    let mut looking = false;
    loop {
        let now = Instant::now();
        // That it begins is said at once.
        let begins = !looking && subscriber.is_looking();
        if now >= count_at || begins {
            count_at = now + COUNT_EVERY;
            clock_ns = clock_offset_ns();
            looking = subscriber.is_looking();
            let (host, lost) = (view.host().to_owned(), subscriber.lost());
            let count = CaptureRow::Count(Count { host, looking, seen, lost });
            if rows.push(&count)?.is_break() || rows.flush().is_break() {
                return Ok(());
            }
        }
        match subscriber.next(PATIENCE) {
            Next::Record(record) => {
                for row in view.rows(&record, clock_ns) {
                    seen += 1;
                    if rows.push(&CaptureRow::Seen(Box::new(row)))?.is_break() {
                        return Ok(());
                    }
                }
            }
            Next::None if rows.flush().is_break() => return Ok(()),
            Next::None => {}
            Next::Failed => return Err(Unanswered::NotLooking),
        }
    }
}

/// Nanoseconds since 1970 when the clock that packets are stamped with stood at zero.
fn clock_offset_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).saturating_sub(dataplane::clock_ns())
}

#[cfg(test)]
mod tests;
