//! The REST API: one pure function from the state and a request to an answer, routed by the segments of the path, so
//! that a ref with slashes is just several segments.

mod apps;
mod checks;
mod comments;
mod commits;
mod pulls;

use std::collections::BTreeMap;

use http::Method;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::identity::{Allowance, Identity, Token};
use crate::world::{Role, World};

/// Where refusals point.
const DOCS: &str = "https://docs.github.com/rest";

/// What one may react with.
pub(crate) const REACTIONS: [&str; 8] = ["+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes"];

/// A request, taken apart.
pub(crate) struct Request {
    /// `GET` for `HEAD` too.
    pub method: Method,
    pub path: Vec<String>,
    pub raw_path: String,
    pub raw_query: String,
    pub query: BTreeMap<String, String>,
    pub body: Value,
    pub identity: Identity,
    pub allowance: Allowance,
}

impl Request {
    pub fn new(
        method: &Method,
        path: &str,
        query: &str,
        body: Value,
        identity: Identity,
        allowance: Allowance,
    ) -> Self {
        let decode = |s: &str| percent_decode_str(s).decode_utf8_lossy().into_owned();
        Self {
            method: if method == Method::HEAD { Method::GET } else { method.clone() },
            path: path.trim_matches('/').split('/').map(decode).collect(),
            raw_path: path.to_owned(),
            raw_query: query.to_owned(),
            query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            body,
            identity,
            allowance,
        }
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// A string of the body.
    pub fn text(&self, name: &str) -> Option<String> {
        self.body.get(name)?.as_str().map(str::to_owned)
    }

    /// One page of a list, with the `Link` header to the others.
    pub fn page<T>(&self, world: &World, items: Vec<T>, render: impl Fn(&T) -> Value) -> Answer {
        let (rows, link) = self.slice(world, &items);
        let mut answer = Answer::ok(Value::Array(rows.iter().map(render).collect()));
        answer.headers.extend(link.map(|link| ("link", link)));
        answer
    }

    /// The rows of the page that is asked for, and the `Link` header when there are others.
    pub fn slice<'a, T>(&self, world: &World, items: &'a [T]) -> (&'a [T], Option<String>) {
        let number = |name, default| {
            self.query(name).and_then(|v| v.parse::<usize>().ok()).filter(|&n| n > 0).unwrap_or(default)
        };
        let per_page = number("per_page", 30).min(100);
        let page = number("page", 1);
        let last = items.len().div_ceil(per_page).max(1);
        let from = per_page.saturating_mul(page - 1).min(items.len());
        let rows = &items[from..items.len().min(from + per_page)];
        let to = |page: usize, rel: &str| {
            let mut query: BTreeMap<&str, String> = self.query.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
            query.insert("page", page.to_string());
            let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
            format!("<{}{}?{query}>; rel=\"{rel}\"", world.base, self.raw_path)
        };
        let mut links = Vec::new();
        if page > 1 {
            links.extend([to((page - 1).min(last), "prev"), to(1, "first")]);
        }
        if page < last {
            links.extend([to(page + 1, "next"), to(last, "last")]);
        }
        (rows, (!links.is_empty()).then(|| links.join(", ")))
    }
}

/// An answer before it is HTTP.
pub(crate) struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// For a rate limit: how long the caller is to be silent. Only the log reads it.
    pub silent_for_s: Option<i64>,
}

/// A refusal stands on the error side, so that handlers read straight down.
pub(crate) type Reply = Result<Answer, Answer>;

impl Answer {
    pub fn json(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body: body.to_string().into_bytes(), silent_for_s: None }
    }

    pub fn ok(body: Value) -> Self {
        Self::json(200, body)
    }

    pub fn empty() -> Self {
        Self { status: 204, headers: Vec::new(), body: Vec::new(), silent_for_s: None }
    }

    pub fn refusal(status: u16, message: &str) -> Self {
        Self::json(status, json!({ "message": message, "documentation_url": DOCS, "status": status.to_string() }))
    }

    pub fn not_found() -> Self {
        Self::refusal(404, "Not Found")
    }

    /// 422 "Validation Failed" with one error.
    pub fn invalid(resource: &str, code: &str, field: &str, message: Option<&str>) -> Self {
        let mut error = json!({ "resource": resource, "code": code, "field": field });
        if let Some(message) = message {
            error["message"] = json!(message);
        }
        Self::json(
            422,
            json!({ "message": "Validation Failed", "errors": [error], "documentation_url": DOCS, "status": "422" }),
        )
    }

    pub fn no_commit(reference: &str) -> Self {
        Self::refusal(422, &format!("No commit found for SHA: {reference}"))
    }
}

/// The answer to any request.
pub(crate) fn answer(world: &mut World, request: &Request) -> Answer {
    route(world, request).unwrap_or_else(|refusal| refusal)
}

fn route(world: &mut World, request: &Request) -> Reply {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["repos", owner, name, rest @ ..] => {
            if let Some(id) = world.repo_named(owner, name).map(|r| r.id) {
                return in_repository(world, request, id, rest);
            }
            let moved = world.repo_formerly(owner, name).ok_or_else(Answer::not_found)?;
            Err(moved_to(world, request, moved.id))
        }
        ["repositories", id, rest @ ..] => {
            let id = id.parse().ok().filter(|id| world.repos.contains_key(id)).ok_or_else(Answer::not_found)?;
            in_repository(world, request, id, rest)
        }
        path => apps::route(world, request, path),
    }
}

/// Where a renamed repository is now: 301 for reads, 307 (method and body kept) for writes.
fn moved_to(world: &World, request: &Request, id: u64) -> Answer {
    let rest: Vec<&str> = request.raw_path.trim_matches('/').splitn(4, '/').skip(3).collect();
    let rest = rest.first().map(|rest| format!("/{rest}")).unwrap_or_default();
    let query = if request.raw_query.is_empty() { String::new() } else { format!("?{}", request.raw_query) };
    let url = format!("{}/repositories/{id}{rest}{query}", world.base);
    let (status, message) =
        if request.method == Method::GET { (301, "Moved Permanently") } else { (307, "Temporary Redirect") };
    let mut answer = Answer::json(status, json!({ "message": message, "url": url, "documentation_url": DOCS }));
    answer.headers.push(("location", url));
    answer
}

fn in_repository(world: &mut World, request: &Request, repo: u64, rest: &[&str]) -> Reply {
    if request.identity == Identity::App && !matches!(rest, ["installation"]) {
        return Err(Answer::refusal(401, "A JSON web token could not be decoded"));
    }
    if request.identity == Identity::Installation && world.app.as_ref().is_some_and(|app| app.suspended) {
        return Err(Answer::refusal(403, "This installation has been suspended"));
    }
    match rest {
        [] => Ok(Answer::ok(world.repository_json(repo))),
        ["collaborators", login, "permission"] => {
            let user = world.user_json(login);
            if user.is_null() {
                return Err(Answer::not_found());
            }
            let role = world.role(repo, login);
            Ok(Answer::ok(json!({ "permission": role.permission(), "role_name": role.role_name(), "user": user })))
        }
        ["installation"] => Ok(Answer::ok(world.installation_json())),
        ["commits" | "branches" | "compare" | "git" | "tags", ..] => {
            checks::of_commit(world, request, repo, rest).unwrap_or_else(|| commits::route(world, request, repo, rest))
        }
        ["check-runs" | "statuses", ..] => checks::route(world, request, repo, rest),
        ["pulls", ..] => pulls::route(world, request, repo, rest),
        ["issues", ..] => comments::route(world, request, repo, rest),
        _ => Err(Answer::not_found()),
    }
}

/// What a write needs: an app's permission, or a classic token's scope.
pub(crate) struct Needs {
    pub permission: &'static [&'static str],
    pub scope: &'static str,
    pub role: Role,
}

impl World {
    /// The login that may do this, or the refusal that GitHub gives.
    pub fn writer(&self, request: &Request, repo: u64, needs: &Needs) -> Result<String, Answer> {
        match &request.identity {
            Identity::Anonymous => Err(Answer::refusal(401, "Requires authentication")),
            Identity::App => Err(Answer::refusal(401, "A JSON web token could not be decoded")),
            Identity::Installation => {
                let app = self.app.as_ref().ok_or_else(Answer::not_found)?;
                let granted = |name: &&str| app.permissions.get(*name).is_some_and(|level| level == "write");
                if needs.permission.iter().any(granted) {
                    Ok(app.login())
                } else {
                    Err(Answer::refusal(403, "Resource not accessible by integration"))
                }
            }
            Identity::User { login, scopes } => {
                // A scope that is missing looks like a repository that is not there.
                let fits = |scope: &String| ["repo", "public_repo", needs.scope].contains(&scope.as_str());
                if scopes.as_ref().is_some_and(|scopes| !scopes.iter().any(fits)) {
                    return Err(Answer::not_found());
                }
                if self.role(repo, login) < needs.role {
                    return Err(Answer::refusal(403, "Must have push access to this repository."));
                }
                Ok(login.clone())
            }
        }
    }

    /// Takes back what the installation was given.
    pub(crate) fn drop_tokens(&mut self) {
        self.tokens.retain(|_, token| matches!(token, Token::Personal { .. }));
    }
}
