use std::fs;

use super::super::measurement::Collector;
use super::*;
use crate::model::Variant;

const GOOD: &str = r#"[{"benchmark": {}, "metric": {"name": "latency", "benchmark_values": [1.5]}}]"#;
const ZERO: &str = r#"[{"benchmark": {}, "metric": {"name": "latency", "benchmark_values": [0]}}]"#;

fn report_of(files: &[(&str, &str)], points: Option<Vec<ExpectedPoint>>) -> Report {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    check(dir.path(), Expectation { points, without_compilation: false }, &mut |_| Ok(())).unwrap()
}

fn expected(suite: &str, point: &str) -> ExpectedPoint {
    ExpectedPoint {
        suite: suite.to_owned(),
        benchmark: point.to_owned(),
        variant: Variant::Base,
        point: point.to_owned(),
        eager: false,
    }
}

fn states(report: &Report) -> Vec<(&str, PointState)> {
    report.points.iter().map(|p| (p.point.as_str(), p.state)).collect()
}

fn problems(report: &Report) -> Vec<(&str, String, ProblemKind)> {
    report.problems.iter().map(|p| (p.file.as_str(), p.at.to_string(), p.kind)).collect()
}

#[test]
fn each_state_of_a_point_is_told_apart() {
    let nan = GOOD.replace("1.5", "NaN");
    let files = [
        ("a.pytorch.json", GOOD),
        ("b.pytorch.json", ZERO),
        ("c.pytorch.json", nan.as_str()),
        ("d.commands", "{}"),
        ("x.pytorch.json", GOOD),
    ];
    let plan = ["a", "b", "c", "d", "e"].map(|point| expected("latency", point)).to_vec();
    let report = report_of(&files, Some(plan));
    assert_eq!(
        states(&report),
        [
            ("a", PointState::Ok),
            ("b", PointState::Zeroed),
            ("c", PointState::NotANumber),
            ("d", PointState::Failed),
            ("e", PointState::NotRun),
            ("x", PointState::Extra),
        ]
    );
    assert!(report.points.iter().all(|p| p.reason.is_some() != matches!(p.state, PointState::Ok | PointState::Extra)));
    assert_eq!(
        (report.records, report.passes(Strictness::Strict), report.passes(Strictness::Lenient)),
        (2, false, true)
    );
}

#[test]
fn extra_points_are_no_fault() {
    let report = report_of(&[("a.pytorch.json", GOOD), ("b.pytorch.json", GOOD)], Some(vec![expected("latency", "a")]));
    assert_eq!(report.completeness(), Completeness::Complete);
}

#[test]
fn without_a_plan_command_files_name_what_is_expected() {
    let report = report_of(&[("a.pytorch.json", GOOD), ("a.commands", "{}"), ("b.commands", "{}")], None);
    assert_eq!(states(&report), [("a", PointState::Ok), ("b", PointState::Failed)]);
    assert_eq!(report.completeness(), Completeness::Incomplete);
    assert_eq!(report_of(&[("a.commands", "{}")], None).completeness(), Completeness::Empty);
}

#[test]
fn a_start_up_has_four_files() {
    let parts = ["cold_startup", "cold_compilation", "warm_startup", "warm_compilation"];
    let names: Vec<String> = parts.iter().map(|part| format!("s.{part}.pytorch.json")).collect();
    let mut files: Vec<_> = names.iter().map(|name| (name.as_str(), GOOD)).collect();
    assert_eq!(states(&report_of(&files, Some(vec![expected("startup", "s")]))), [("s", PointState::Ok)]);
    files.remove(1);
    let report = report_of(&files, Some(vec![expected("startup", "s")]));
    assert_eq!(states(&report), [("s", PointState::Failed)]);
    assert_eq!(report.points[0].reason.as_deref(), Some("no result for cold_compilation"));
    let eager = ExpectedPoint { eager: true, ..expected("startup", "s") };
    assert_eq!(states(&report_of(&files, Some(vec![eager]))), [("s", PointState::Ok)]);
    files.push(("s.commands", "{\"startup_command\": \"vllm bench startup --enforce-eager\"}"));
    assert_eq!(states(&report_of(&files, None)), [("s", PointState::Ok)]);
}

#[test]
fn zero_compilation_is_right_where_the_command_or_the_plan_says_eager() {
    let zero = ZERO.replace("latency", "avg_cold_compilation_time");
    let name = "s.cold_compilation.pytorch.json";
    let told = r#"{"latency_command": "vllm bench startup --compilation-config '{\"backend\":\"eager\"}'"}"#;
    assert_eq!(report_of(&[(name, &zero), ("s.commands", told)], None).completeness(), Completeness::Complete);
    assert_eq!(report_of(&[(name, &zero), ("s.commands", "{}")], None).completeness(), Completeness::Empty);
    // The name of a file says nothing.
    assert_eq!(
        report_of(&[("s_eager.cold_compilation.pytorch.json", &zero)], None).completeness(),
        Completeness::Empty
    );
}

#[test]
fn failed_and_missing_requests_are_told_and_the_records_stay_valid() {
    let native = |failed: u32, completed: u32| {
        format!(r#"{{"num_prompts": 200, "failed": {failed}, "completed": {completed}, "request_throughput": 1}}"#)
    };
    for (failed, completed, kind) in [(3, 197, ProblemKind::RequestsFailed), (0, 150, ProblemKind::RequestsMissing)] {
        let report = report_of(&[("a.json", &native(failed, completed)), ("a.pytorch.json", GOOD)], None);
        assert_eq!(problems(&report), [("a.json", String::new(), kind)]);
        assert_eq!((states(&report), report.records), (vec![("a", PointState::Failed)], 1));
    }
    assert_eq!(
        report_of(&[("a.json", &native(0, 200)), ("a.pytorch.json", GOOD)], None).completeness(),
        Completeness::Complete
    );
    // The records say it themselves where the native result is gone.
    let record = GOOD.replace("[1.5]", &format!("[1.5], \"extra_info\": {}", native(1, 199)));
    assert_eq!(problems(&report_of(&[("a.pytorch.json", &record)], None))[0].2, ProblemKind::RequestsFailed);
    // A native result that belongs to no point is nobody's fault.
    assert!(report_of(&[("other.json", &native(1, 1)), ("a.pytorch.json", GOOD)], None).problems.is_empty());
}

#[test]
fn elements_that_are_no_records_are_faults_only_where_records_are_claimed() {
    let mixed = GOOD.replace('[', "[1, ").replacen("[1, 1.5]", "[1.5]", 1);
    assert_eq!(problems(&report_of(&[("a.pytorch.json", &mixed)], None)).len(), 1);
    assert_eq!(problems(&report_of(&[("a.json", &mixed)], None)).len(), 1, "it holds a record");
    for other in ["[1, 2]", "[\"benchmark\"]", "[[1]]", "42", "null", "{}", "[]", "{\"x\": 1}"] {
        let report = report_of(&[("a.json", other), ("ok.pytorch.json", GOOD)], None);
        assert_eq!(report.completeness(), Completeness::Complete, "{other}");
        let report = report_of(&[("a.pytorch.json", other), ("ok.pytorch.json", GOOD)], None);
        assert_eq!(report.completeness(), Completeness::Incomplete, "{other}");
    }
}

#[test]
fn unreadable_files_are_faults_only_where_records_are_claimed() {
    for (name, text, faulty) in [
        ("a.json", "{\"x\": ", false),
        ("a.json", "", false),
        ("a.pytorch.json", "", true),
        ("a.pytorch.json", "{\"x\": ", true),
        ("a.json", "[{\"benchmark\": {\"name\"", true),
        ("a.json", "{}\n{}}", false),
        ("a.json", "{\"benchmark\": {}}\n{}}", true),
    ] {
        let report = report_of(&[(name, text), ("ok.pytorch.json", GOOD)], None);
        assert_eq!(!report.problems.is_empty(), faulty, "{name} {text}");
        assert_eq!(report.records, 1);
    }
}

#[test]
fn only_plain_files_of_the_directory_itself_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(outside.path().join("secret.json"), GOOD).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret.json"), at("link.json")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret.json"), at("link.pytorch.json")).unwrap();
    fs::create_dir(at("dir.json")).unwrap();
    fs::write(at("dir.json/inner.json"), GOOD).unwrap();
    fs::create_dir(at("sub")).unwrap();
    fs::write(at("sub/a.pytorch.json"), GOOD).unwrap();
    fs::write(at(".hidden.json"), GOOD).unwrap();
    fs::write(at("upper.JSON"), GOOD).unwrap();
    fs::write(at("ok.pytorch.json"), GOOD).unwrap();
    let report = check(dir.path(), Expectation::default(), &mut |_| Ok(())).unwrap();
    assert_eq!(report.records, 1);
    assert_eq!(problems(&report), [("link.pytorch.json", String::new(), ProblemKind::NotAFile)]);
    assert_eq!(report.warnings.len(), 2, "{:?}", report.warnings);
}

#[test]
fn what_a_record_may_not_say_is_warned_of() {
    let record = GOOD.replace("\"metric\"", "\"head_sha\": \"x\", \"timestamp\": 1, \"metric\"");
    let report = report_of(&[("a.pytorch.json", &record)], None);
    assert_eq!(report.completeness(), Completeness::Complete);
    assert!(report.warnings[0].contains("`head_sha`, `timestamp`"), "{:?}", report.warnings);
}

#[test]
fn a_flood_of_problems_is_told_once() {
    let report = report_of(&[("a.pytorch.json", &format!("[{}1]", "1,".repeat(999)))], None);
    assert_eq!(report.problems.len(), TOLD_FAULTS + 1);
    assert_eq!(report.problems.last().unwrap().message, "900 more problems");
    let report = report_of(&[("a.pytorch.json", &format!("[1,{}1]", "x,".repeat(998)))], None);
    assert_eq!(report.problems.last().unwrap().message, "900 more problems");
}

#[test]
fn results_of_any_size_are_bounded() {
    let told = |files: &[(&str, &str)]| {
        let report = report_of(files, None);
        let last = report.problems.into_iter().rfind(|problem| problem.kind == ProblemKind::TooLarge);
        (report.records, last.map(|problem| (problem.file, problem.message)))
    };
    let over = |file: &str, message: &str| Some((file.to_owned(), message.to_owned()));
    let many = |count: usize| {
        format!("[{}{}]", format!("{},", &GOOD[1..GOOD.len() - 1]).repeat(count - 1), &GOOD[1..GOOD.len() - 1])
    };
    let half = many(MAX_RECORDS / 2);
    let files = [("a.pytorch.json", half.as_str()), ("b.pytorch.json", half.as_str()), ("c.pytorch.json", GOOD)];
    assert_eq!(told(&files[..2]), (MAX_RECORDS, None));
    assert_eq!(told(&files), (MAX_RECORDS, over("c.pytorch.json", "more than 200000 records")));
    let values = GOOD.replace("1.5", &format!("{}1", "1,".repeat(MAX_VALUES - 1)));
    assert_eq!(told(&[("a.pytorch.json", &values)]), (1, None));
    let files = [("a.pytorch.json", values.as_str()), ("b.pytorch.json", GOOD)];
    assert_eq!(told(&files), (1, over("b.pytorch.json", "more than 2000000 values")));
    // Each of these bytes is written as six.
    let text = |bytes: usize| GOOD.replace("{}", &format!("{{\"x\": \"{}\"}}", "\u{7f}".repeat(bytes)));
    assert_eq!(told(&[("a.pytorch.json", &text((4 << 20) / 6 - 50))]), (1, None));
    assert_eq!(
        told(&[("a.pytorch.json", &text((4 << 20) / 6))]),
        (0, over("a.pytorch.json", "a record of more than 4 MiB"))
    );
    let blank = format!("{GOOD}{}", " ".repeat(15 << 20));
    let names = ["a", "b", "c", "d", "e"].map(|name| format!("{name}.pytorch.json"));
    let files = names.each_ref().map(|name| (name.as_str(), blank.as_str()));
    assert_eq!(told(&files), (4, over("e.pytorch.json", "more than 64 MiB of records")));
    let blank = format!("{GOOD}{}", " ".repeat(16 << 20));
    assert_eq!(told(&[("a.pytorch.json", &blank)]), (0, over("a.pytorch.json", "larger than 16 MiB, not read")));
}

#[test]
fn nothing_that_is_told_moves_a_cursor() {
    let odd = r"\u001b]0;pwn\u0007\r\nfake: ok";
    let keyed = GOOD.replace("\"metric\"", &format!("\"inputs\": {{\"{odd}\": 1}}, \"metric\""));
    let argument = GOOD.replace("{}", &format!("{{\"{odd}\": NaN}}"));
    let unit = format!(r#"[{{"name": "x", "value": 1, "unit": "{odd}"}}]"#);
    let group = format!(r#"{{"{odd}": {{"speed": {{"value": 1}}}}}}"#);
    let files = [
        ("a.pytorch.json", GOOD.replace("latency", odd)),
        ("b.pytorch.json", keyed),
        ("c.pytorch.json", argument),
        ("d.json", unit),
        ("e.json", group),
        ("\u{1b}[2J.pytorch.json", GOOD.to_owned()),
        ("\u{1b}[2J.json", GOOD.to_owned()),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in &files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let mut collector = Collector::default();
    let report = check(dir.path(), Expectation::default(), &mut |finding| {
        collector.take(&finding);
        Ok(())
    })
    .unwrap();
    let mut told: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    told.extend(report.warnings.iter().cloned());
    told.extend(report.files.iter().map(|file| file.name.clone()));
    told.extend(report.points.iter().flat_map(|p| [p.benchmark.clone(), p.point.clone(), format!("{:?}", p.reason)]));
    let measurements = collector.finish();
    told.extend(measurements.iter().flat_map(|m| [m.metric.clone(), m.unit.clone(), m.point.clone()]));
    assert!(!told.iter().any(|text| text.chars().any(char::is_control)), "{told:#?}");
    assert_eq!((report.problems.len(), report.warnings.len(), measurements.len()), (5, 1, 1), "{told:#?}");
    assert!(
        told.contains(&r"\u{1b}[2J.pytorch.json: its name holds control characters, not read".to_owned()),
        "{told:#?}"
    );
}

#[test]
fn a_missing_directory_is_an_error() {
    let error = check(Path::new("/nonexistent/results"), Expectation::default(), &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/results"));
}

#[test]
fn a_record_with_a_secret_is_a_problem_however_it_is_escaped() {
    redact::learn("hf_secret-of-records");
    let record = |text: &str| GOOD.replace("{}", &format!("{{\"token\": {text}}}"));
    let key = GOOD.replace("{}", r#"{"hf_secret-of-records": 1}"#);
    let files = [
        ("a.pytorch.json", record(r#""hf_secret-of-records""#)),
        ("b.pytorch.json", record(r#"["x hf_s\u0065cret-of-records"]"#)),
        ("c.pytorch.json", key),
        ("d.pytorch.json", record("\"***\"")),
        ("e.json", r#"[{"name": "x", "value": 1, "extra": "hf_secret-of-records"}]"#.to_owned()),
    ];
    let report = report_of(&files.each_ref().map(|(name, text)| (*name, text.as_str())), None);
    let kinds: Vec<_> = report.problems.iter().map(|problem| (problem.file.as_str(), problem.kind)).collect();
    let held = ["a.pytorch.json", "b.pytorch.json", "c.pytorch.json", "e.json"];
    assert_eq!(kinds, held.map(|file| (file, ProblemKind::HoldsSecret)));
    assert_eq!(report.records, 1);
}
