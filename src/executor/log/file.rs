//! The log's file: timed lines up to a size; beyond it the head and the tail are kept and the middle is counted.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use chrono::SecondsFormat;
use serde::{Deserialize, Serialize};

use super::lines::Line;

/// The tail is held in memory until the log ends.
const MAX_TAIL_BYTES: u64 = 8 << 20;

/// A log that is being written.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: BufWriter<File>,
    head_bytes: u64,
    tail_bytes: u64,
    written: u64,
    lines: u64,
    tail: VecDeque<String>,
    tail_size: u64,
    dropped_lines: u64,
    dropped_bytes: u64,
}

/// What lies in a finished log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSummary {
    /// Where it is.
    pub path: PathBuf,
    /// Lines that were printed.
    pub lines: u64,
    /// Lines of the middle that were left out because the log is over its size.
    pub dropped_lines: u64,
}

impl LogFile {
    /// Begins the log at `path` anew (the engine still has all of it), at most `max_bytes` long.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path, max_bytes: u64) -> io::Result<Self> {
        let tail_bytes = (max_bytes / 4).min(MAX_TAIL_BYTES);
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(File::create(path)?),
            head_bytes: max_bytes - tail_bytes,
            tail_bytes,
            written: 0,
            lines: 0,
            tail: VecDeque::new(),
            tail_size: 0,
            dropped_lines: 0,
            dropped_bytes: 0,
        })
    }

    /// Adds a line: `2026-01-02T03:04:05.678Z text`.
    ///
    /// # Errors
    /// When the disk refuses it.
    pub fn line(&mut self, line: &Line) -> io::Result<()> {
        let text = format!("{} {}\n", line.at.to_rfc3339_opts(SecondsFormat::Millis, true), line.text);
        let size = size_of_text(&text);
        self.lines += 1;
        if self.tail.is_empty() && self.dropped_lines == 0 && self.written + size <= self.head_bytes {
            self.written += size;
            return self.file.write_all(text.as_bytes());
        }
        self.tail_size += size;
        self.tail.push_back(text);
        while self.tail_size > self.tail_bytes
            && let Some(oldest) = self.tail.pop_front()
        {
            let size = size_of_text(&oldest);
            self.tail_size -= size;
            self.dropped_lines += 1;
            self.dropped_bytes += size;
        }
        Ok(())
    }

    /// Brings the lines so far to the file, for a person who reads along.
    ///
    /// # Errors
    /// When the disk refuses them.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// Ends the log.
    ///
    /// # Errors
    /// When the disk refuses the rest.
    pub fn finish(mut self) -> io::Result<LogSummary> {
        if self.dropped_lines > 0 {
            writeln!(
                self.file,
                "[benchd left out {} lines ({} bytes) here: the log is over its size]",
                self.dropped_lines, self.dropped_bytes
            )?;
        }
        for text in &self.tail {
            self.file.write_all(text.as_bytes())?;
        }
        self.file.flush()?;
        Ok(LogSummary { path: self.path, lines: self.lines, dropped_lines: self.dropped_lines })
    }
}

fn size_of_text(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn head_and_tail_stay_and_the_middle_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.txt");
        let mut log = LogFile::create(&path, 1000).unwrap();
        for number in 0..100 {
            log.line(&Line { at: DateTime::from_timestamp_millis(1).unwrap(), text: format!("line {number}") })
                .unwrap();
        }
        let summary = log.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("1970-01-01T00:00:00.001Z line 0\n"), "{text}");
        assert!(text.ends_with(" line 99\n"));
        let kept = u64::try_from(text.lines().count()).unwrap() - 1;
        assert_eq!(kept + summary.dropped_lines, 100);
        assert!(text.contains(&format!("left out {} lines", summary.dropped_lines)));
        assert!(text.len() < 1100);
    }

    #[test]
    fn a_small_log_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.txt");
        let mut log = LogFile::create(&path, 1000).unwrap();
        log.line(&Line { at: DateTime::UNIX_EPOCH, text: String::new() }).unwrap();
        assert_eq!(log.finish().unwrap().dropped_lines, 0);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1970-01-01T00:00:00.000Z \n");
    }
}
