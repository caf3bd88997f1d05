//! How far a pull has come, from the engine's messages about its layers. Pure: messages and the time since the start
//! in, numbers out.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use bollard::models::CreateImageInfo;

use crate::config::human;

/// The rate is taken over this much of the last time.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// How far a pull has come. Totals grow until the engine has begun with every layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// Layers that are here, unpacked.
    pub layers_done: usize,
    /// Layers of the image, those included that were here before.
    pub layers_total: usize,
    /// Bytes downloaded, compressed.
    pub bytes_done: u64,
    /// Bytes to download, as far as layers have begun.
    pub bytes_total: u64,
    /// Download rate in bytes per second over the last seconds.
    pub bytes_per_second: u64,
}

impl fmt::Display for PullProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{} layers, {} of {}, {}/s",
            self.layers_done,
            self.layers_total,
            human(self.bytes_done),
            human(self.bytes_total),
            human(self.bytes_per_second)
        )
    }
}

/// Adds up the messages of one pull.
#[derive(Debug, Default)]
pub(super) struct PullTally {
    layers: BTreeMap<String, Layer>,
    downloaded: VecDeque<(Duration, u64)>,
}

#[derive(Debug, Default)]
struct Layer {
    done: bool,
    bytes_done: u64,
    bytes_total: u64,
}

impl PullTally {
    /// Takes one message, `at` after the start of the pull.
    pub(super) fn take(&mut self, message: &CreateImageInfo, at: Duration) -> PullProgress {
        if let (Some(id), Some(status)) = (&message.id, &message.status)
            // The head line names the tag or digest in the place of a layer.
            && !status.starts_with("Pulling from ")
        {
            self.layers.entry(id.clone()).or_default().take(status, message);
        }
        self.progress(at)
    }

    fn progress(&mut self, at: Duration) -> PullProgress {
        let sum = |bytes: fn(&Layer) -> u64| self.layers.values().map(bytes).fold(0, u64::saturating_add);
        let bytes_done = sum(|layer| layer.bytes_done);
        let bytes_total = sum(|layer| layer.bytes_total);
        self.downloaded.push_back((at, bytes_done));
        while self.downloaded.len() > 2
            && self.downloaded.get(1).is_some_and(|(then, _)| at.saturating_sub(*then) >= RATE_WINDOW)
        {
            self.downloaded.pop_front();
        }
        let (then, before) = self.downloaded.front().copied().unwrap_or((at, bytes_done));
        let (bytes, elapsed) = (bytes_done.saturating_sub(before), at.saturating_sub(then));
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        PullProgress {
            layers_done: self.layers.values().filter(|layer| layer.done).count(),
            layers_total: self.layers.len(),
            bytes_done,
            bytes_total,
            bytes_per_second: bytes.saturating_mul(1000).checked_div(elapsed_ms).unwrap_or(0),
        }
    }
}

impl Layer {
    fn take(&mut self, status: &str, message: &CreateImageInfo) {
        let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
        let detail = message.progress_detail.as_ref();
        let (current, total) = (bytes(detail.and_then(|d| d.current)), bytes(detail.and_then(|d| d.total)));
        match status {
            "Downloading" => {
                self.bytes_total = total.unwrap_or(self.bytes_total).max(self.bytes_total);
                self.bytes_done = current.unwrap_or(self.bytes_done);
            }
            "Verifying Checksum" | "Download complete" => self.bytes_done = self.bytes_total,
            "Extracting" => {
                // The engine may leave out the download of a small layer; unpacking counts the same compressed bytes.
                self.bytes_total = self.bytes_total.max(total.unwrap_or_default());
                self.bytes_done = self.bytes_total;
            }
            "Pull complete" | "Already exists" => {
                self.done = true;
                self.bytes_done = self.bytes_total;
            }
            // "Pulling fs layer", "Waiting", and a retry after a broken download, which begins again.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;

    fn message(id: &str, status: &str, detail: Option<(i64, i64)>) -> CreateImageInfo {
        CreateImageInfo {
            id: Some(id.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: detail.map(|(c, t)| ProgressDetail { current: Some(c), total: Some(t) }),
            ..CreateImageInfo::default()
        }
    }

    #[test]
    fn layers_and_bytes_add_up() {
        let mut tally = PullTally::default();
        let second = Duration::from_secs;
        tally.take(&message("sha256:1", "Pulling from a/b", None), second(0));
        tally.take(&message("l1", "Already exists", None), second(0));
        tally.take(&message("l2", "Pulling fs layer", None), second(0));
        tally.take(&message("l3", "Waiting", None), second(0));
        let begun = tally.take(&message("l2", "Downloading", Some((500, 4000))), second(1));
        assert_eq!((begun.layers_done, begun.layers_total), (1, 3));
        assert_eq!((begun.bytes_done, begun.bytes_total, begun.bytes_per_second), (500, 4000, 500));
        let later = tally.take(&message("l2", "Download complete", None), second(2));
        assert_eq!((later.bytes_done, later.bytes_per_second), (4000, 2000));
        tally.take(&message("l2", "Extracting", Some((10, 4000))), second(20));
        let done = tally.take(&message("l2", "Pull complete", None), second(21));
        assert_eq!((done.layers_done, done.bytes_done, done.bytes_total), (2, 4000, 4000));
        assert_eq!(done.bytes_per_second, 0, "nothing was downloaded of late");
        assert_eq!(done.to_string(), "2/3 layers, 3.9 KiB of 3.9 KiB, 0 B/s");
    }

    #[test]
    fn nonsense_from_the_engine_stays_a_number() {
        let mut tally = PullTally::default();
        tally.take(&message("l", "Downloading", Some((-1, -1))), Duration::ZERO);
        let odd = tally.take(&message("l", "Downloading", Some((i64::MAX, i64::MAX))), Duration::ZERO);
        assert_eq!(odd.bytes_per_second, 0);
    }
}
