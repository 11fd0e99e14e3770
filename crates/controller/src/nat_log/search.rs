//! Who held a port when: from records in the order of the log to spans of time.
//!
//! Pure. A span begins with `granted` or, where that line is gone or was never written, with `held`, and ends
//! with the block's `returned` or `revoked`, with a checkpoint that no longer knows it, or with the next grant.

use super::event::Kind;
use super::index::Record;

/// A time during which a block was one owner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span<P> {
    pub(super) from_ms: i64,
    /// None: until now.
    pub(super) until_ms: Option<i64>,
    /// A line that names the owner.
    pub(super) line: P,
}

impl<P> Span<P> {
    pub(super) fn covers(&self, ms: i64) -> bool {
        self.from_ms <= ms && self.until_ms.is_none_or(|until| ms < until)
    }
}

/// The spans of one port of one external network. `records`: those of its blocks and all checkpoints, with the
/// place of their lines.
pub(super) fn spans<P: Copy>(records: impl IntoIterator<Item = (Record, P)>) -> Vec<Span<P>> {
    let mut fold = Fold { ended: Vec::new(), open: None, since_checkpoint: None };
    for (record, line) in records {
        fold.take(record, line);
    }
    fold.end_unconfirmed();
    fold.ended.extend(fold.open);
    fold.ended
}

struct Fold<P> {
    ended: Vec<Span<P>>,
    open: Option<Span<P>>,
    /// The last checkpoint has not named the open span yet.
    since_checkpoint: Option<i64>,
}

impl<P: Copy> Fold<P> {
    fn take(&mut self, record: Record, line: P) {
        let new = Span { from_ms: record.granted_at_ms, until_ms: None, line };
        match record.kind {
            Kind::Checkpoint => {
                self.end_unconfirmed();
                self.since_checkpoint = self.open.as_ref().map(|_| record.time_ms);
            }
            Kind::Held => {
                let resumed = self.ended.pop_if(|ended| ended.from_ms == record.granted_at_ms);
                if let Some(resumed) = resumed {
                    // A checkpoint that broke off had ended it.
                    self.open = Some(Span { until_ms: None, ..resumed });
                } else if self.open.as_ref().is_none_or(|open| open.from_ms != record.granted_at_ms) {
                    self.end(record.granted_at_ms);
                    self.open = Some(new);
                }
                self.since_checkpoint = None;
            }
            Kind::Granted => {
                self.end_unconfirmed();
                self.end(record.time_ms);
                self.open = Some(new);
            }
            Kind::Returned | Kind::Revoked => {
                // An end without a beginning still says who and since when.
                self.since_checkpoint = None;
                self.open.get_or_insert(new);
                self.end(record.time_ms);
            }
        }
    }

    fn end_unconfirmed(&mut self) {
        if let Some(checkpoint_ms) = self.since_checkpoint.take() {
            self.end(checkpoint_ms);
        }
    }

    fn end(&mut self, at_ms: i64) {
        if let Some(open) = self.open.take() {
            self.ended.push(Span { until_ms: Some(at_ms), ..open });
        }
    }
}
