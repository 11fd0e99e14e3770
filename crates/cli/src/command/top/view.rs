//! Drawing: pages above, the table, keys below.

use super::state::{Line, Page, Top};
use ratatui::Frame;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line as TextLine, Span};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Table};

const KEYS: &str = "1-5 Tab page   ←→ sort by   r reverse   / filter   ↑↓ PgUp PgDn Home scroll   q end";
/// Of a look that is printed.
const TEXT_WIDTH: u16 = 200;
const TEXT_LINES: u16 = 60;

pub(crate) fn draw(top: &Top, frame: &mut Frame<'_>) {
    let [pages, table, notes, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(pages_line(top)), pages);
    draw_table(top, frame, table);
    frame.render_widget(Paragraph::new(note(top)), notes);
    frame.render_widget(Paragraph::new(KEYS).style(Style::new().add_modifier(Modifier::DIM)), keys);
}

fn pages_line(top: &Top) -> TextLine<'static> {
    let page = |(number, page): (usize, Page)| {
        let text = format!(" {} {} ", number + 1, page.title());
        let style =
            if page == top.page() { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        Span::styled(text, style)
    };
    TextLine::from(Page::ALL.into_iter().enumerate().map(page).collect::<Vec<_>>())
}

/// What is wrong, or being typed.
fn note(top: &Top) -> String {
    match (&top.error, top.typing) {
        (Some(error), _) => format!("the last numbers that came; now: {error}"),
        (None, true) => format!("filter: {}_", top.filter),
        (None, false) if !top.silent.is_empty() => top.silent.join("; "),
        (None, false) if !top.filter.is_empty() => format!("only lines with '{}'", top.filter),
        (None, false) => String::new(),
    }
}

fn draw_table(top: &Top, frame: &mut Frame<'_>, area: Rect) {
    let (column, ascending) = top.order();
    let headers: Vec<String> = headers(top.page())
        .enumerate()
        .map(|(place, header)| match place == column {
            true => format!("{header}{}", if ascending { "▲" } else { "▼" }),
            false => header.to_owned(),
        })
        .collect();
    // As many as fit: a page of flows has thousands.
    let lines: Vec<Vec<String>> =
        top.lines().into_iter().take(usize::from(area.height)).map(|line| cells(top.page(), line)).collect();
    let width = |place: usize| {
        let cells = lines.iter().chain([&headers]).filter_map(|cells| cells.get(place));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        Constraint::Length(u16::try_from(widest).unwrap_or(u16::MAX))
    };
    let widths: Vec<Constraint> = (0..headers.len()).map(width).collect();
    let header =
        TableRow::new(headers.into_iter().map(Cell::from)).style(Style::new().add_modifier(Modifier::BOLD));
    let rows = lines.into_iter().map(|cells| TableRow::new(cells.into_iter().map(Cell::from)));
    frame.render_widget(Table::new(rows, widths).header(header).column_spacing(2), area);
}

fn headers(page: Page) -> impl Iterator<Item = &'static str> {
    page.headers().into_iter().flatten().copied()
}

fn cells(page: Page, line: &Line) -> Vec<String> {
    let [_, rates, _] = page.headers();
    let words = line.row.words.iter().cloned();
    let rate = |(place, header): (usize, &&str)| {
        let rate = line.rates.as_ref().and_then(|rates| rates.get(place)).copied();
        rate.map_or("-".to_owned(), |rate| short(rate, header.starts_with('B')))
    };
    let rates = rates.iter().enumerate().map(rate);
    words.chain(rates).chain(line.row.levels.iter().map(u64::to_string)).collect()
}

/// A rate in few letters: 1.2 k, 3.4 M; bytes as B/s.
fn short(rate: f64, bytes: bool) -> String {
    let (number, unit) = match rate {
        rate if rate >= 1e9 => (rate / 1e9, "G"),
        rate if rate >= 1e6 => (rate / 1e6, "M"),
        rate if rate >= 1e3 => (rate / 1e3, "k"),
        rate => (rate, ""),
    };
    let unit = if bytes { format!("{unit}B") } else { unit.to_owned() };
    let digits = usize::from(rate >= 1e3 || (number < 10.0 && number.fract() > 0.05));
    format!("{number:.digits$} {unit}").trim_end().to_owned()
}

/// The same as text, without what is beyond its end.
pub(crate) fn text(top: &Top) -> anyhow::Result<String> {
    let mut terminal = Terminal::new(TestBackend::new(TEXT_WIDTH, TEXT_LINES))?;
    terminal.draw(|frame| draw(top, frame))?;
    let buffer = terminal.backend().buffer();
    let line = |y: u16| {
        let line: String =
            (0..TEXT_WIDTH).filter_map(|x| buffer.cell((x, y))).map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned()
    };
    // The keys are of no use on paper.
    let mut lines: Vec<String> = (0..TEXT_LINES - 1).map(line).collect();
    lines.retain(|line| !line.is_empty());
    Ok(lines.into_iter().map(|line| line + "\n").collect())
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Row, Sample};
    use super::super::state::Action;
    use super::*;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    fn port(link: &str, sent_bytes: u64) -> Row {
        Row {
            key: link.to_owned(),
            words: ["ahv01", link, "blue", "192.168.10.11"].map(str::to_owned).to_vec(),
            counters: vec![sent_bytes / 100, sent_bytes, 0, 0],
            levels: vec![],
        }
    }

    fn sample(rows: Vec<Row>) -> Sample {
        Sample { rows: BTreeMap::from([(Page::Ports, rows)]), silent: Vec::new() }
    }

    /// Two looks, two seconds apart.
    fn looked() -> Top {
        let mut top = Top::new(Page::Ports);
        let start = Instant::now();
        top.add(start, sample(vec![port("tap1", 1000), port("tap2", 0)]));
        top.add(
            start + Duration::from_secs(2),
            sample(vec![port("tap1", 5000), port("tap2", 3_000_000), port("tap3", 9)]),
        );
        top
    }

    fn press(top: &mut Top, code: KeyCode) -> Action {
        top.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn links(top: &Top) -> Vec<&str> {
        top.lines().iter().map(|line| line.row.words[1].as_str()).collect()
    }

    #[test]
    fn rates_are_per_second_and_the_busiest_comes_first() {
        let text = text(&looked()).unwrap();
        let want = "\x20\
1 hosts  2 ports  3 flows  4 drops  5 NAT blocks
host   link  network  address        sent    B sent▼  delivered  B delivered
ahv01  tap2  blue     192.168.10.11  15.0 k  1.5 MB   0          0 B
ahv01  tap1  blue     192.168.10.11  20      2.0 kB   0          0 B
ahv01  tap3  blue     192.168.10.11  -       -        -          -
";
        assert_eq!(text, want);
    }

    #[test]
    fn a_rate_stays_until_the_host_tells_its_counters_again() {
        let host = |packets: u64| Row {
            key: "ahv01".to_owned(),
            words: ["ahv01", "true", "10.1.0.1"].map(str::to_owned).to_vec(),
            counters: vec![packets; 8],
            levels: vec![0],
        };
        let (mut top, start) = (Top::new(Page::Hosts), Instant::now());
        let mut rate_at = |seconds: u64, packets: u64| {
            let rows = BTreeMap::from([(Page::Hosts, vec![host(packets)])]);
            top.add(start + Duration::from_secs(seconds), Sample { rows, silent: Vec::new() });
            top.lines()[0].rates.as_ref().map(|rates| rates[0])
        };
        assert_eq!(rate_at(0, 0), None);
        assert_eq!(rate_at(5, 500), Some(100.0));
        assert_eq!(rate_at(7, 500), Some(100.0), "not told yet");
        assert_eq!(rate_at(10, 1500), Some(200.0));
        assert_eq!(rate_at(17, 1500), Some(0.0), "told, and nothing came");
    }

    #[test]
    fn keys_sort_reverse_filter_and_turn_pages() {
        let mut top = looked();
        assert_eq!(links(&top), ["tap2", "tap1", "tap3"]);
        press(&mut top, KeyCode::Char('r'));
        assert_eq!(links(&top), ["tap3", "tap1", "tap2"]);
        // The column of B sent is the sixth: four to the left is the link.
        for _ in 0..4 {
            assert_eq!(press(&mut top, KeyCode::Left), Action::Draw);
        }
        assert_eq!(links(&top), ["tap1", "tap2", "tap3"]);
        press(&mut top, KeyCode::Char('/'));
        for letter in "tap3q".chars() {
            assert_eq!(press(&mut top, KeyCode::Char(letter)), Action::Draw, "typed, not obeyed");
        }
        press(&mut top, KeyCode::Backspace);
        press(&mut top, KeyCode::Enter);
        assert_eq!(links(&top), ["tap3"]);
        assert!(text(&top).unwrap().contains("only lines with 'tap3'"));
        assert_eq!(press(&mut top, KeyCode::Tab), Action::Fetch);
        assert_eq!(top.page(), Page::Flows);
        assert_eq!(press(&mut top, KeyCode::Char('1')), Action::Fetch);
        assert_eq!(top.page(), Page::Hosts);
        assert_eq!(press(&mut top, KeyCode::Char('q')), Action::End);
    }

    #[test]
    fn scrolling_ends_at_the_last_line() {
        let mut top = looked();
        press(&mut top, KeyCode::Down);
        assert_eq!(links(&top), ["tap1", "tap3"]);
        press(&mut top, KeyCode::PageDown);
        assert_eq!(links(&top), ["tap3"]);
        press(&mut top, KeyCode::Home);
        assert_eq!(links(&top).len(), 3);
    }

    #[test]
    fn who_does_not_answer_is_said_and_the_rest_stays() {
        let mut top = looked();
        top.silent = vec!["host 'ahv03' did not answer: it is not connected".to_owned()];
        assert!(text(&top).unwrap().contains("ahv03"));
        top.fail("no controller answers".to_owned());
        let page = text(&top).unwrap();
        assert!(page.contains("no controller answers") && page.contains("tap2"), "{page}");
    }

    #[test]
    fn a_terminal_of_any_size_is_drawn() {
        for (width, height) in [(1, 1), (20, 3), (80, 24), (300, 100)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| draw(&looked(), frame)).unwrap();
        }
    }

    #[test]
    fn rates_are_short() {
        for (rate, bytes, want) in [
            (0.0, false, "0"),
            (1.5, false, "1.5"),
            (999.0, true, "999 B"),
            (1500.0, false, "1.5 k"),
            (2.5e9, true, "2.5 GB"),
        ] {
            assert_eq!(short(rate, bytes), want);
        }
    }
}
