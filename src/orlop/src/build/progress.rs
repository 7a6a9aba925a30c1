//! Progress on standard error: all output of all steps, each line with its step; on a terminal the
//! running steps below it, each with its time.

use super::args::ProgressForm;
use orlop_api::builds_v1::build_event::Event;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two pictures of the running steps.
const PAUSE: Duration = Duration::from_millis(200);
/// Running steps that are shown at once.
const SHOWN: usize = 8;

/// Prints events.
pub(super) struct Printer {
    form: ProgressForm,
    /// Steps that run: name, beginning, output that has no newline yet.
    running: BTreeMap<u64, Running>,
    /// Lines of the picture that is on the terminal now.
    drawn: usize,
}

struct Running {
    name: String,
    since: Instant,
    rest: Vec<u8>,
}

impl Printer {
    pub(super) fn new(form: ProgressForm) -> Self {
        let form = match form {
            ProgressForm::Auto if std::io::stderr().is_terminal() => ProgressForm::Tty,
            ProgressForm::Auto => ProgressForm::Plain,
            other => other,
        };
        Self { form, running: BTreeMap::new(), drawn: 0 }
    }

    /// Ready when it is time for another picture; never where none is drawn.
    pub(super) async fn tick(&self) {
        match self.form {
            ProgressForm::Tty => tokio::time::sleep(PAUSE).await,
            _ => std::future::pending().await,
        }
    }

    pub(super) fn show(&mut self, event: Event) {
        match self.form {
            ProgressForm::Rawjson => json(&event),
            ProgressForm::Quiet => {}
            ProgressForm::Plain | ProgressForm::Auto => {
                let lines = self.lines(event);
                write(&lines.concat());
            }
            ProgressForm::Tty => {
                let lines = self.lines(event);
                if !lines.is_empty() {
                    self.clear();
                    write(&lines.concat());
                    self.draw();
                }
            }
        }
    }

    /// The lines that stay. Every line of every step is one of them.
    fn lines(&mut self, event: Event) -> Vec<String> {
        match event {
            Event::Started(started) => {
                let line = format!("#{} {}\n", started.step, started.name);
                let running =
                    Running { name: started.name, since: Instant::now(), rest: Vec::new() };
                self.running.insert(started.step, running);
                vec![line]
            }
            Event::Output(output) => {
                let Some(running) = self.running.get_mut(&output.step) else { return Vec::new() };
                running.rest.extend_from_slice(&output.data);
                let end = running.rest.iter().rposition(|byte| *byte == b'\n');
                let whole: Vec<u8> =
                    end.map_or_else(Vec::new, |end| running.rest.drain(..=end).collect());
                let whole = String::from_utf8_lossy(&whole);
                whole.lines().map(|line| format!("#{} {}\n", output.step, plain(line))).collect()
            }
            Event::Done(done) => {
                let mut lines = self.rest(done.step);
                lines.push(match done.cached {
                    true => format!("#{} CACHED\n", done.step),
                    false => {
                        format!("#{} DONE {:.1}s\n", done.step, done.microseconds as f64 / 1e6)
                    }
                });
                lines
            }
            Event::Missed(missed) => vec![format!("#{} not reused: {}\n", missed.step, missed.why)],
            Event::Failed(failed) => {
                let mut lines = self.rest(failed.step);
                lines.push(format!("#{} ERROR: {}\n", failed.step, failed.error));
                lines
            }
            Event::Warning(message) => vec![format!("WARNING: {message}\n")],
            Event::Result(_) | Event::Failure(_) | Event::Chunk(_) => Vec::new(),
        }
    }

    /// What an ended step said last, without a newline.
    fn rest(&mut self, step: u64) -> Vec<String> {
        let running = self.running.remove(&step).filter(|running| !running.rest.is_empty());
        let line = |running: Running| {
            format!("#{step} {}\n", plain(&String::from_utf8_lossy(&running.rest)))
        };
        running.map(line).into_iter().collect()
    }

    /// Draws the running steps with their times.
    pub(super) fn draw(&mut self) {
        if self.form != ProgressForm::Tty {
            return;
        }
        let width = terminal_width();
        let picture: Vec<String> = self
            .running
            .iter()
            .take(SHOWN)
            .map(|(step, running)| {
                let time = format!("{:.1}s", running.since.elapsed().as_secs_f64());
                let room = width.saturating_sub(time.len() + 1);
                let text: String =
                    format!(" => #{step} {}", running.name).chars().take(room).collect();
                let gap = room.saturating_sub(text.chars().count());
                format!("{text}{}{time}\n", " ".repeat(gap))
            })
            .collect();
        self.clear();
        self.drawn = picture.len();
        write(&picture.concat());
    }

    /// Takes the picture away.
    fn clear(&mut self) {
        if self.drawn > 0 {
            write(&format!("\x1b[{}A\x1b[J", self.drawn));
            self.drawn = 0;
        }
    }

    /// The last word.
    pub(super) fn end(&mut self) {
        self.clear();
    }
}

/// A step's line as it may be shown: a process must not move the cursor of the caller's terminal.
fn plain(line: &str) -> String {
    // Of what overwrites itself the last state.
    let mut rest = line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    let mut text = String::with_capacity(rest.len());
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\x1b' => escape(rest),
            first => first.len_utf8(),
        };
        let (part, after) = rest.split_at(length);
        // Of the sequences only colours pass.
        if (first == '\x1b' && part.ends_with('m')) || first == '\t' || !first.is_control() {
            text.push_str(part);
        }
        rest = after;
    }
    text
}

/// Length of the escape sequence that a text begins with.
fn escape(text: &str) -> usize {
    match text.strip_prefix("\x1b[") {
        None => 1,
        Some(rest) => {
            let end = rest.find(|c: char| !(c.is_ascii_digit() || c == ';' || c == '?'));
            let last = end.and_then(|end| rest[end..].chars().next().map(|c| end + c.len_utf8()));
            2 + last.unwrap_or(rest.len())
        }
    }
}

fn terminal_width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.map_or(80, |size| usize::from(size.ws_col)).max(40)
}

fn write(text: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

fn json(event: &Event) {
    let value = match event {
        Event::Started(e) => serde_json::json!({"step": e.step, "started": e.name}),
        Event::Output(e) => {
            serde_json::json!({"step": e.step, "output": String::from_utf8_lossy(&e.data)})
        }
        Event::Done(e) => serde_json::json!({
            "step": e.step, "cached": e.cached, "seconds": e.microseconds as f64 / 1e6,
        }),
        Event::Missed(e) => serde_json::json!({"step": e.step, "missed": e.why}),
        Event::Failed(e) => serde_json::json!({"step": e.step, "error": e.error}),
        Event::Warning(message) => serde_json::json!({"warning": message}),
        Event::Result(_) | Event::Failure(_) | Event::Chunk(_) => return,
    };
    write(&format!("{value}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use orlop_api::builds_v1 as v1;

    #[test]
    fn all_output_is_kept_by_line() {
        let mut printer = Printer::new(ProgressForm::Plain);
        let output =
            |data: &str| Event::Output(v1::StepOutput { step: 3, data: data.as_bytes().to_vec() });
        let started = Event::Started(v1::Started { step: 3, name: "[a] RUN x".into() });
        assert_eq!(printer.lines(started), ["#3 [a] RUN x\n"]);
        assert!(printer.lines(output("half")).is_empty());
        assert_eq!(printer.lines(output(" line\n10%\r20%\nrest")), ["#3 half line\n", "#3 20%\n"]);
        let done = Event::Done(v1::Done { step: 3, cached: false, microseconds: 1_500_000 });
        assert_eq!(printer.lines(done), ["#3 rest\n", "#3 DONE 1.5s\n"]);
    }

    #[test]
    fn a_process_does_not_move_the_cursor() {
        assert_eq!(plain("a\x08\x07b\tc"), "ab\tc");
        assert_eq!(plain("\x1b[2J\x1b[31mred\x1b[0m\x1b[1;1H\x1b]0;t"), "\x1b[31mred\x1b[0m]0;t");
    }
}
