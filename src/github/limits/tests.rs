use super::*;

const MINUTE: TimeDelta = TimeDelta::minutes(1);

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_780_000_000, 0).unwrap()
}

fn limits() -> Limits {
    Limits::new(Pace::with_pause(Duration::from_secs(1)))
}

fn told(status: u16, headers: &[(&'static str, &str)], body: &str) -> Told {
    let headers = headers.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect();
    Told::of(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
}

fn budget(status: u16, remaining: u64, reset_in: TimeDelta) -> Told {
    let (remaining, reset) = (remaining.to_string(), (start() + reset_in).timestamp().to_string());
    let headers = [
        ("x-ratelimit-limit", "5000"),
        ("x-ratelimit-remaining", remaining.as_str()),
        ("x-ratelimit-reset", reset.as_str()),
        ("x-ratelimit-resource", "core"),
    ];
    told(status, &headers, "{}")
}

fn seconds(wait: Option<(TimeDelta, Reason)>) -> Option<(i64, Reason)> {
    wait.map(|(wait, reason)| (wait.num_seconds(), reason))
}

/// Sends what may be sent, one after the other, until `until`; the instants.
fn sent_until(limits: &mut Limits, need: Need, until: TimeDelta) -> Vec<TimeDelta> {
    let (mut now, mut sent) = (start(), Vec::new());
    while now < start() + until {
        match limits.wait(Speaker::Token, need, now) {
            Some((wait, _)) => now += wait,
            None => {
                limits.sent(need, now);
                sent.push(now - start());
            }
        }
    }
    sent
}

#[test]
fn limits_are_told_apart_from_refusals() {
    let limited = |status, headers: &[(&'static str, &str)], body: &str| told(status, headers, body).limited;
    let wait = Some(Limited::Secondary { wait: Some(TimeDelta::seconds(7)) });
    assert_eq!(limited(403, &[("retry-after", "7"), ("x-ratelimit-remaining", "0")], ""), wait);
    assert_eq!(limited(200, &[("retry-after", "7")], ""), None);
    let primary = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1780000060")];
    for status in [403, 429] {
        assert_eq!(limited(status, &primary, ""), Some(Limited::Primary { reset_at: start() + MINUTE }));
    }
    let nothing = Some(Limited::Secondary { wait: None });
    assert_eq!(limited(403, &[], r#"{"message": "You have exceeded a secondary rate limit"}"#), nothing);
    assert_eq!(limited(429, &[], "<html>"), nothing);
    assert_eq!(limited(403, &[], r#"{"message": "Resource not accessible by integration"}"#), None);
    assert_eq!(limited(403, &[("x-ratelimit-remaining", "17"), ("retry-after", "soon")], ""), None);
}

#[test]
fn writes_are_a_second_apart_and_within_both_budgets() {
    let mut limits = limits();
    let sent = sent_until(&mut limits, Need::Write, TimeDelta::hours(3));
    assert!(sent.windows(2).all(|pair| pair[1] - pair[0] >= TimeDelta::seconds(1)));
    let most = |span: TimeDelta| {
        sent.iter().map(|from| sent.iter().filter(|at| *at >= from && **at < *from + span).count()).max().unwrap()
    };
    assert_eq!((most(MINUTE), most(TimeDelta::hours(1))), (60, 500));
    assert!(sent.len() >= 1500, "the hourly budget is used whole: {}", sent.len());
    let mut fast = Limits::new(Pace { between_writes: TimeDelta::milliseconds(1), ..limits.pace });
    assert_eq!(sent_until(&mut fast, Need::Write, MINUTE).len(), 80);
    assert_eq!(seconds(fast.wait(Speaker::Token, Need::Read, start() + MINUTE)), None, "reads need not wait for that");
}

#[test]
fn the_pause_counts_from_the_end_of_a_write() {
    let mut limits = limits();
    limits.sent(Need::Write, start());
    limits.wrote(start() + TimeDelta::seconds(20));
    let wait = |at| seconds(limits.wait(Speaker::Token, Need::Write, start() + TimeDelta::seconds(at)));
    assert_eq!((wait(20), wait(21)), (Some((1, Reason::Pace)), None));
    assert_eq!(wait(-3600), Some((1, Reason::Pace)), "a clock that is set back does not stop writes");
}

#[test]
fn reads_keep_to_their_points() {
    let sent = sent_until(&mut limits(), Need::Read, MINUTE);
    assert_eq!(sent.len(), 900);
    let free = Limits::new(Pace::with_pause(Duration::ZERO));
    assert_eq!(free.pace.writes_an_hour, usize::MAX);
}

#[test]
fn silence_is_kept_by_every_later_request_of_everybody() {
    let mut limits = limits();
    let secondary = told(403, &[("retry-after", "90")], "");
    assert_eq!(limits.answered(Speaker::Token, &secondary, start()), Some(TimeDelta::seconds(90)));
    for need in [Need::Read, Need::Recheck, Need::Write] {
        for speaker in [Speaker::Token, Speaker::App] {
            assert_eq!(seconds(limits.wait(speaker, need, start())), Some((90, Reason::Silence)));
        }
    }
    // An answer to a question that was on its way already ends no silence, and a shorter one neither.
    limits.answered(Speaker::Token, &told(200, &[], ""), start());
    limits.answered(Speaker::Token, &told(429, &[("retry-after", "1")], ""), start());
    assert_eq!(seconds(limits.wait(Speaker::Token, Need::Read, start())), Some((90, Reason::Silence)));
    assert_eq!(limits.wait(Speaker::Token, Need::Read, start() + TimeDelta::seconds(90)), None);
}

#[test]
fn a_secondary_limit_without_a_time_is_a_minute_then_doubles() {
    let mut limits = limits();
    let unsaid = told(429, &[], "{}");
    let mut now = start();
    let mut waits = Vec::new();
    for _ in 0..9 {
        let wait = limits.answered(Speaker::Token, &unsaid, now).unwrap();
        waits.push(wait.num_minutes());
        now += wait;
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 65, 65]);
    limits.answered(Speaker::Token, &told(200, &[], ""), now);
    assert_eq!(limits.answered(Speaker::Token, &unsaid, now), Some(MINUTE), "an answer begins the count again");
}

#[test]
fn a_primary_limit_lasts_until_its_reset_and_never_hammers() {
    let mut limits = limits();
    let wait = limits.answered(Speaker::Token, &budget(403, 0, MINUTE), start());
    assert_eq!(wait, Some(MINUTE));
    // A reset in the past: our clock goes ahead.
    let mut limits = self::limits();
    let mut waits = Vec::new();
    let mut now = start();
    for _ in 0..4 {
        let wait = limits.answered(Speaker::Token, &budget(429, 0, -MINUTE), now).unwrap();
        waits.push(wait.num_seconds());
        now += wait;
    }
    assert_eq!(waits, [1, 2, 4, 8]);
    // A wait in seconds needs no clock: it is kept, within reason.
    let named = |seconds| told(403, &[("retry-after", seconds)], "");
    assert_eq!(limits.answered(Speaker::Token, &named("7200"), now), Some(TimeDelta::hours(2)));
    assert_eq!(limits.answered(Speaker::Token, &named("9999999"), now), Some(LONGEST_WAIT));
    // A reset far away: the other clock is wrong.
    assert_eq!(limits.answered(Speaker::Token, &budget(403, 0, TimeDelta::days(9)), now), Some(LONGEST_SILENCE));
}

#[test]
fn a_low_budget_is_left_to_writes() {
    let mut limits = limits();
    limits.answered(Speaker::Installation(1), &budget(200, 500, MINUTE), start());
    let wait = |limits: &Limits, who, need| seconds(limits.wait(who, need, start()));
    let us = Speaker::Installation(1);
    assert_eq!(wait(&limits, us, Need::Read), Some((60, Reason::Budget)));
    assert_eq!((wait(&limits, us, Need::Recheck), wait(&limits, us, Need::Write)), (None, None));
    assert_eq!(wait(&limits, Speaker::Installation(2), Need::Read), None, "each has its own");
    limits.answered(us, &budget(200, 0, MINUTE), start());
    assert_eq!(wait(&limits, us, Need::Write), Some((60, Reason::Budget)));
    limits.answered(us, &budget(304, 3, MINUTE), start());
    assert_eq!(wait(&limits, us, Need::Write), Some((60, Reason::Budget)), "answers overtake each other");
    assert_eq!(limits.wait(us, Need::Read, start() + MINUTE), None);
    limits.answered(Speaker::Anonymous, &budget(200, 1, MINUTE), start());
    assert_eq!(wait(&limits, Speaker::Anonymous, Need::Read), None, "nobody writes as nobody");
    // The budget of searches is another one.
    let search = [("x-ratelimit-resource", "search"), ("x-ratelimit-limit", "30"), ("x-ratelimit-remaining", "0")];
    limits.answered(Speaker::Token, &told(200, &search, ""), start());
    assert_eq!(wait(&limits, Speaker::Token, Need::Write), None);
}
