//! `nanboku top`: what is going on now, as rates, in a terminal.
//!
//! [`state`] is what is shown and how keys change it, [`view`] draws it; neither knows where the numbers come from or
//! what time it is. Here they are fetched, and the terminal is borrowed.

mod sample;
mod state;
mod view;

use crate::resource::Context;
use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use sample::Sample;
use state::{Action, Top};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// Seconds between two looks.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    interval: u64,
    /// Print this many looks as text and end, for terminals that are none.
    #[arg(long, value_name = "LOOKS", value_parser = clap::value_parser!(u64).range(1..))]
    batch: Option<u64>,
    /// What to look at first.
    #[arg(long, value_enum, default_value = "hosts")]
    page: state::Page,
}

pub(crate) async fn run(args: TopArgs, cx: &Context) -> anyhow::Result<String> {
    let interval = Duration::from_secs(args.interval);
    let mut top = Top::new(args.page);
    if let Some(looks) = args.batch {
        return batch(&mut top, cx, looks, interval).await;
    }
    anyhow::ensure!(
        std::io::stdout().is_terminal() && std::io::stdin().is_terminal(),
        "standard input or output is no terminal; use --batch 1"
    );
    // Also puts a hook before the panic's, so that the terminal is given back whatever happens.
    let mut terminal = ratatui::try_init()?;
    let result = watch(&mut top, cx, interval, &mut terminal).await;
    ratatui::restore();
    result.map(|()| String::new())
}

/// Looks one after the other as text: the first has no rates yet.
async fn batch(top: &mut Top, cx: &Context, looks: u64, interval: Duration) -> anyhow::Result<String> {
    let mut text = String::new();
    for look in 0..=looks {
        if look > 0 {
            tokio::time::sleep(interval).await;
        }
        top.add(Instant::now(), Sample::fetch(&cx.client, top.page()).await?);
        if look > 0 {
            text.push_str(&view::text(top)?);
        }
    }
    Ok(text)
}

async fn watch(
    top: &mut Top,
    cx: &Context,
    interval: Duration,
    terminal: &mut ratatui::DefaultTerminal,
) -> anyhow::Result<()> {
    let mut keys = keys();
    let mut due = tokio::time::Instant::now();
    loop {
        terminal.draw(|frame| view::draw(top, frame))?;
        tokio::select! {
            () = tokio::time::sleep_until(due) => {
                match Sample::fetch(&cx.client, top.page()).await {
                    Ok(sample) => top.add(Instant::now(), sample),
                    // A controller that restarts comes back: the last numbers stay, with what is wrong.
                    Err(error) => top.fail(error.to_string()),
                }
                due = tokio::time::Instant::now() + interval;
            }
            event = keys.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => match top.key(key) {
                    Action::End => return Ok(()),
                    // Another page may need other numbers.
                    Action::Fetch => due = tokio::time::Instant::now(),
                    Action::Draw => {}
                },
                Some(_) => {}
                None => return Ok(()),
            },
        }
    }
}

/// Events of the terminal, read in a thread of their own because reading blocks.
fn keys() -> tokio::sync::mpsc::Receiver<Event> {
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    });
    receiver
}
