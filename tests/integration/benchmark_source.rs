//! Benchmark files out of a git repository: read at a ref, read anew for every plan, never from an older fetch.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use benchd::model::Platform;
use benchd::suite::{BenchmarkSet, Source, SourceError};

fn git(dir: &Path, args: &[&str]) -> String {
    let identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"];
    let ran = Command::new("git").args(identity).args(args).current_dir(dir).output().unwrap();
    assert!(ran.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).trim().to_owned()
}

struct Repository {
    work: tempfile::TempDir,
    bare: tempfile::TempDir,
    cache: tempfile::TempDir,
}

impl Repository {
    fn new() -> Self {
        let new = || tempfile::tempdir().unwrap();
        let repository = Self { work: new(), bare: new(), cache: new() };
        git(repository.work.path(), &["init", "--quiet"]);
        git(repository.bare.path(), &["init", "--quiet", "--bare"]);
        repository
    }

    /// Commits latency benchmarks of these models and pushes them.
    fn push(&self, folder: &str, models: &[&str]) -> String {
        let entry = |m: &&str| format!(r#"{{"test_name": "latency_{m}", "parameters": {{"model": "m/{m}"}}}}"#);
        let entries: Vec<_> = models.iter().map(entry).collect();
        let dir = self.work.path().join(folder);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("latency-tests.json"), format!("[{}]", entries.join(","))).unwrap();
        git(self.work.path(), &["add", "-A"]);
        git(self.work.path(), &["commit", "--quiet", "-m", "benchmarks"]);
        git(self.work.path(), &["push", "--quiet", &self.bare.path().display().to_string(), "HEAD:refs/heads/main"]);
        git(self.work.path(), &["rev-parse", "HEAD"])
    }

    async fn read(&self, reference: &str, path: &str) -> Result<BenchmarkSet, SourceError> {
        let url = self.bare.path().display().to_string();
        let source = Source::Git { url, reference: reference.to_owned(), path: PathBuf::from(path) };
        source.read(Platform::Cuda, self.cache.path()).await
    }
}

fn names(set: &BenchmarkSet) -> Vec<&str> {
    set.files.iter().flat_map(|file| &file.benchmarks).map(|benchmark| benchmark.name.as_str()).collect()
}

#[tokio::test]
async fn a_new_model_needs_no_restart() {
    let repository = Repository::new();
    let first = repository.push("perf/benchmarks/cuda", &["a"]);
    let set = repository.read("main", "perf/benchmarks").await.unwrap();
    assert_eq!((names(&set), set.revision.as_ref().unwrap().as_str()), (vec!["latency_a"], first.as_str()));

    let second = repository.push("perf/benchmarks/cuda", &["a", "b"]);
    let set = repository.read("main", "perf/benchmarks/").await.unwrap();
    assert_eq!(
        (names(&set), set.revision.as_ref().unwrap().as_str()),
        (vec!["latency_a", "latency_b"], second.as_str())
    );
    // A branch may be rewritten, and an older commit asked for by its id.
    git(
        repository.work.path(),
        &["push", "--quiet", "-f", &repository.bare.path().display().to_string(), &format!("{first}:refs/heads/main")],
    );
    assert_eq!(names(&repository.read("refs/heads/main", "perf/benchmarks").await.unwrap()), ["latency_a"]);
    assert_eq!(names(&repository.read(&first, "perf/benchmarks").await.unwrap()), ["latency_a"]);
}

#[tokio::test]
async fn the_platforms_may_lie_at_the_top() {
    let repository = Repository::new();
    repository.push("cuda", &["a"]);
    std::os::unix::fs::symlink("/etc/passwd", repository.work.path().join("cuda/serving-tests.json")).unwrap();
    repository.push("cuda", &["a"]);
    let set = repository.read("main", "").await.unwrap();
    assert_eq!(names(&set), ["latency_a"]);
    let said: Vec<_> = set.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        ["serving-tests.json: failed to read the file: a symbolic link inside a repository is not followed"]
    );
}

#[tokio::test]
async fn what_is_not_there_is_an_error_and_never_an_older_answer() {
    let repository = Repository::new();
    repository.push("cuda", &["a"]);
    repository.read("main", "").await.unwrap();
    assert!(matches!(repository.read("absent", "").await, Err(SourceError::Fetch { .. })));
    assert!(matches!(repository.read("--upload-pack=x", "").await, Err(SourceError::Configuration { .. })));
    assert!(matches!(repository.read("main", "../up").await, Err(SourceError::Configuration { .. })));
    let error = repository.read("main", "elsewhere").await.unwrap_err().to_string();
    assert!(error.contains("(folder \"elsewhere\") holds no benchmark files for cuda"), "{error}");
    fs::remove_dir_all(repository.bare.path()).unwrap();
    let error = repository.read("main", "").await.unwrap_err();
    assert!(error.to_string().starts_with("failed to fetch `main` of the benchmark repository "), "{error}");
    assert!(!error.is_usage() && repository.read("main", "../up").await.unwrap_err().is_usage());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_at_the_same_moment_wait_for_each_other() {
    let repository = Repository::new();
    let first = repository.push("cuda", &["a"]);
    repository.push("cuda", &["a", "b"]);
    let references = ["main", first.as_str(), "refs/heads/main", "HEAD"].repeat(3);
    let read = futures_util::future::join_all(references.iter().map(|reference| repository.read(reference, ""))).await;
    for (reference, set) in references.iter().zip(read) {
        let models = if *reference == first { 1 } else { 2 };
        assert_eq!(names(&set.unwrap()).len(), models, "{reference}");
    }
}

#[tokio::test]
async fn what_a_git_that_was_killed_left_locked_is_taken_away() {
    let repository = Repository::new();
    repository.push("cuda", &["a"]);
    repository.read("main", "").await.unwrap();
    let kept = fs::read_dir(repository.cache.path()).unwrap().map(|entry| entry.unwrap().path());
    let kept = kept.into_iter().find(|path| path.is_dir()).unwrap();
    let reference = fs::read_dir(kept.join("refs/benchd")).unwrap().next().unwrap().unwrap().path();
    for left in [kept.join("shallow.lock"), kept.join("config.lock"), reference.with_extension("lock")] {
        fs::write(left, "").unwrap();
    }
    repository.push("cuda", &["a", "b"]);
    assert_eq!(names(&repository.read("main", "").await.unwrap()), ["latency_a", "latency_b"]);
}
