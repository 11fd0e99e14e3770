//! What is shown, and how keys change it.

use super::sample::{Row, Sample};
use clap::ValueEnum;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// A page of the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Page {
    Hosts,
    Ports,
    Flows,
    Drops,
    Blocks,
}

impl Page {
    pub(crate) const ALL: [Self; 5] = [Self::Hosts, Self::Ports, Self::Flows, Self::Drops, Self::Blocks];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Hosts => "hosts",
            Self::Ports => "ports",
            Self::Flows => "flows",
            Self::Drops => "drops",
            Self::Blocks => "NAT blocks",
        }
    }

    /// Headers of words, of rates, of levels. A rate whose header begins with `B` is of bytes.
    pub(crate) const fn headers(self) -> [&'static [&'static str]; 3] {
        match self {
            Self::Hosts => [
                &["host", "live", "vtep"],
                &[
                    "from VMs",
                    "to VMs",
                    "in tunnel",
                    "out tunnel",
                    "in uplink",
                    "out uplink",
                    "dropped",
                    "punted",
                ],
                &["NAT ports"],
            ],
            Self::Ports => [
                &["host", "link", "network", "address"],
                &["sent", "B sent", "delivered", "B delivered"],
                &[],
            ],
            Self::Flows => [
                &["host", "network", "proto", "source", "destination", "nat", "source outside", "state"],
                &["packets", "B out", "replies", "B in"],
                &[],
            ],
            Self::Drops => [&["host", "stage", "reason", "meaning"], &["per second"], &["total"]],
            Self::Blocks => [&["host"], &[], &["blocks", "retiring", "ports", "used", "% used"]],
        }
    }

    /// For how long counters that stand still may only not have been told: hosts tell theirs every five seconds.
    const fn told_every(self) -> Duration {
        match self {
            Self::Hosts | Self::Drops => Duration::from_secs(6),
            Self::Ports | Self::Flows | Self::Blocks => Duration::ZERO,
        }
    }

    /// What is sorted by at first.
    const fn first_order(self) -> usize {
        let [words, rates, levels] = self.headers();
        match self {
            Self::Hosts => 0,
            Self::Ports | Self::Flows => words.len() + 1,
            Self::Drops => words.len(),
            Self::Blocks => words.len() + rates.len() + levels.len() - 1,
        }
    }
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Draw,
    /// Numbers at once.
    Fetch,
    End,
}

/// A line with its rates.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) row: Row,
    /// Per second; none before the second look, or of what is new.
    pub(crate) rates: Option<Vec<f64>>,
}

/// A line's counters when they were told, and the rates that came of it.
#[derive(Clone, Debug)]
struct Before {
    told: Instant,
    counters: Vec<u64>,
    rates: Option<Vec<f64>>,
}

impl Before {
    fn next(former: Option<&Self>, row: &Row, now: Instant, page: Page) -> Self {
        let fresh = |rates| Self { told: now, counters: row.counters.clone(), rates };
        let Some(former) = former else { return fresh(None) };
        let since = now.saturating_duration_since(former.told);
        if former.counters == row.counters && since < page.told_every() {
            return former.clone();
        }
        let seconds = since.as_secs_f64();
        // A counter that fell began anew: its host was restarted.
        let rate = |(now, then): (&u64, &u64)| now.saturating_sub(*then) as f64 / seconds;
        let rates = (seconds > 0.0).then(|| row.counters.iter().zip(&former.counters).map(rate).collect());
        fresh(rates)
    }
}

#[derive(Debug)]
pub(crate) struct Top {
    page: Page,
    /// Column sorted by, and whether the smallest comes first, by page.
    order: BTreeMap<Page, (usize, bool)>,
    first_row: usize,
    pub(crate) filter: String,
    /// The filter is being typed.
    pub(crate) typing: bool,
    /// What rates are reckoned from, by page and line.
    before: BTreeMap<Page, HashMap<String, Before>>,
    lines: BTreeMap<Page, Vec<Line>>,
    pub(crate) silent: Vec<String>,
    pub(crate) error: Option<String>,
}

impl Top {
    pub(crate) fn new(page: Page) -> Self {
        let (before, lines, silent) = Default::default();
        let order = Page::ALL.map(|page| (page, (page.first_order(), page == Page::Hosts))).into();
        let filter = String::new();
        Self { page, order, first_row: 0, filter, typing: false, before, lines, silent, error: None }
    }

    pub(crate) fn page(&self) -> Page {
        self.page
    }

    /// Column sorted by, and whether the smallest comes first.
    pub(crate) fn order(&self) -> (usize, bool) {
        self.order.get(&self.page).copied().unwrap_or((0, true))
    }

    /// The numbers of a look.
    pub(crate) fn add(&mut self, now: Instant, sample: Sample) {
        self.error = None;
        self.silent = sample.silent;
        for (page, rows) in sample.rows {
            let former = self.before.remove(&page).unwrap_or_default();
            let mut before = HashMap::with_capacity(rows.len());
            let lines = rows.into_iter().map(|row| {
                let next = Before::next(former.get(&row.key), &row, now, page);
                let rates = next.rates.clone();
                before.insert(row.key.clone(), next);
                Line { row, rates }
            });
            let lines: Vec<Line> = lines.collect();
            self.before.insert(page, before);
            self.lines.insert(page, lines);
        }
    }

    pub(crate) fn fail(&mut self, error: String) {
        self.error = Some(error);
    }

    /// The lines of the page that match the filter, in order, from the first that is shown.
    pub(crate) fn lines(&self) -> Vec<&Line> {
        let (column, ascending) = self.order();
        let lines = self.lines.get(&self.page).map(Vec::as_slice).unwrap_or_default();
        let matches = |line: &&Line| {
            self.filter.is_empty() || line.row.words.iter().any(|word| word.contains(&self.filter))
        };
        let mut lines: Vec<&Line> = lines.iter().filter(matches).collect();
        lines.sort_by(|a, b| {
            let order = compare(a, b, column);
            let order = if ascending { order } else { order.reverse() };
            order.then_with(|| a.row.key.cmp(&b.row.key))
        });
        let first = self.first_row.min(lines.len().saturating_sub(1));
        lines.split_off(first)
    }

    pub(crate) fn key(&mut self, key: KeyEvent) -> Action {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if self.typing {
            match key.code {
                KeyCode::Esc => (self.typing, self.filter) = (false, String::new()),
                KeyCode::Enter => self.typing = false,
                KeyCode::Backspace => drop(self.filter.pop()),
                KeyCode::Char('c') if control => return Action::End,
                KeyCode::Char(letter) => self.filter.push(letter),
                _ => {}
            }
            return Action::Draw;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Action::End,
            KeyCode::Char('c') if control => return Action::End,
            KeyCode::Char(digit @ '1'..='5') => {
                let place = digit as usize - '1' as usize;
                return self.go(Page::ALL.get(place).copied().unwrap_or(self.page));
            }
            KeyCode::Tab => return self.go(self.neighbor(1)),
            KeyCode::BackTab => return self.go(self.neighbor(Page::ALL.len() - 1)),
            KeyCode::Right | KeyCode::Char('>') => self.sort_by(1),
            KeyCode::Left | KeyCode::Char('<') => self.sort_by(self.columns() - 1),
            KeyCode::Char('r') => {
                let (column, ascending) = self.order();
                self.order.insert(self.page, (column, !ascending));
            }
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Down => self.first_row = (self.first_row + 1).min(self.rows().saturating_sub(1)),
            KeyCode::Up => self.first_row = self.first_row.saturating_sub(1),
            KeyCode::PageDown => self.first_row = (self.first_row + 20).min(self.rows().saturating_sub(1)),
            KeyCode::PageUp => self.first_row = self.first_row.saturating_sub(20),
            KeyCode::Home => self.first_row = 0,
            _ => {}
        }
        Action::Draw
    }

    fn rows(&self) -> usize {
        self.lines.get(&self.page).map_or(0, Vec::len)
    }

    fn columns(&self) -> usize {
        self.page.headers().iter().map(|headers| headers.len()).sum()
    }

    fn neighbor(&self, step: usize) -> Page {
        let place = Page::ALL.iter().position(|page| *page == self.page).unwrap_or(0);
        Page::ALL.get((place + step) % Page::ALL.len()).copied().unwrap_or(self.page)
    }

    fn go(&mut self, page: Page) -> Action {
        (self.page, self.first_row) = (page, 0);
        Action::Fetch
    }

    /// Words are sorted from the smallest at first, numbers from the largest.
    fn sort_by(&mut self, step: usize) {
        let column = (self.order().0 + step) % self.columns();
        let [words, ..] = self.page.headers();
        self.order.insert(self.page, (column, column < words.len()));
    }
}

fn compare(a: &Line, b: &Line, column: usize) -> Ordering {
    let words = a.row.words.len();
    if column < words {
        return a.row.words.get(column).cmp(&b.row.words.get(column));
    }
    let column = column - words;
    let rates = a.row.counters.len();
    if column < rates {
        let rate =
            |line: &Line| line.rates.as_ref().and_then(|rates| rates.get(column)).copied().unwrap_or(-1.0);
        return rate(a).total_cmp(&rate(b));
    }
    a.row.levels.get(column - rates).cmp(&b.row.levels.get(column - rates))
}
