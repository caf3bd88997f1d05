//! The app: its JWT, the tokens of its installation, and the log of its deliveries.

use chrono::{TimeDelta, Utc};
use octocrab::jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use crate::receiver::Receiver;
use crate::{app_clients, client, raw, read, small};

#[tokio::test]
async fn the_app_gets_long_tokens_and_caches_them() {
    let (gh, _, pull) = small().await;
    let app = gh.install_app(4711, "benchd");
    let (as_app, http) = app_clients(&gh, &app);
    assert_eq!(as_app.current().app().await.unwrap().id, 4711.into());
    http.issues("o", "r").create_comment(1, "one").await.unwrap();
    http.issues("o", "r").create_comment(1, "two").await.unwrap();
    assert_eq!(gh.calls().to("POST", "/app/installations/*/access_tokens").count(), 1);
    assert_eq!(pull.comments()[0].author, "benchd[bot]");
    assert_eq!(gh.calls().writes().0[0].by, format!("installation {}", app.installation_id));
    let (_, token) = as_app.installation_and_token(app.installation_id.into()).await.unwrap();
    let token = octocrab::secrecy::ExposeSecret::expose_secret(&token).to_owned();
    assert!(token.starts_with("ghs_4711_") && token.len() > 255, "{token}");
    let (status, ..) = raw(&http, "GET", "/user", None, &[]).await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn a_jwt_is_judged_by_githubs_rules() {
    let (gh, ..) = small().await;
    let app = gh.install_app(4711, "benchd");
    let key = EncodingKey::from_rsa_pem(app.private_key_pem.as_bytes()).unwrap();
    let other = EncodingKey::from_rsa_pem(gh.install_app(4711, "benchd").private_key_pem.as_bytes()).unwrap();
    let now = Utc::now().timestamp();
    let ask = async |issuer: u64, iat: i64, exp: i64, key: &EncodingKey, algorithm| {
        let jwt = encode(&Header::new(algorithm), &json!({ "iss": issuer, "iat": now + iat, "exp": now + exp }), key)
            .unwrap();
        let http = client(gh.url(), Some(&jwt));
        raw(&http, "GET", "/app", None, &[]).await.0
    };
    // The key of the last installation counts.
    assert_eq!(ask(4711, -60, 540, &other, Algorithm::RS256).await, 200);
    assert_eq!(ask(4711, -60, 540, &key, Algorithm::RS256).await, 401, "another key");
    assert_eq!(ask(4712, -60, 540, &other, Algorithm::RS256).await, 401, "another app");
    assert_eq!(ask(4711, 600, 900, &other, Algorithm::RS256).await, 401, "issued in the future");
    assert_eq!(ask(4711, -600, -1, &other, Algorithm::RS256).await, 401, "expired");
    assert_eq!(ask(4711, -60, 700, &other, Algorithm::RS256).await, 401, "too far in the future");
    assert_eq!(ask(4711, -60, 540, &other, Algorithm::RS384).await, 401, "another algorithm");
}

#[tokio::test]
async fn an_installation_token_ends_after_an_hour_or_when_revoked() {
    let (gh, ..) = small().await;
    let app = gh.install_app(4711, "benchd");
    let (_, http) = app_clients(&gh, &app);
    // The client asks for a new token once when the old one is refused.
    let refused_then_renewed = async |end_tokens: &dyn Fn()| {
        raw(&http, "GET", "/repos/o/r", None, &[]).await;
        end_tokens();
        gh.forget_calls();
        assert_eq!(raw(&http, "GET", "/repos/o/r", None, &[]).await.0, 200);
        let seen: Vec<_> = gh.calls().0.iter().map(|c| (c.by.clone(), c.status)).collect();
        let installation = format!("installation {}", app.installation_id);
        assert_eq!(seen, [("unknown token".into(), Some(401)), ("app".into(), Some(201)), (installation, Some(200))]);
    };
    refused_then_renewed(&|| gh.advance(TimeDelta::minutes(61))).await;
    refused_then_renewed(&|| gh.revoke_installation_tokens()).await;
    let token = gh.personal_token("bench", &["repo"]);
    let http = client(gh.url(), Some(&token));
    assert_eq!(raw(&http, "GET", "/user", None, &[]).await.0, 200);
    gh.revoke_token(&token);
    assert_eq!(raw(&http, "GET", "/user", None, &[]).await.0, 401);
}

#[tokio::test]
async fn a_suspended_installation_is_refused() {
    let (gh, ..) = small().await;
    let app = gh.install_app(4711, "benchd");
    let (_, http) = app_clients(&gh, &app);
    assert_eq!(raw(&http, "GET", "/repos/o/r", None, &[]).await.0, 200);
    gh.suspend_installation(true);
    assert_eq!(raw(&http, "GET", "/repos/o/r", None, &[]).await.0, 403);
    let (as_app, _) = app_clients(&gh, &app);
    let route = format!("/app/installations/{}/access_tokens", app.installation_id);
    assert_eq!(raw(&as_app, "POST", &route, None, &[]).await.0, 403);
    gh.suspend_installation(false);
    assert_eq!(raw(&http, "GET", "/repos/o/r", None, &[]).await.0, 200);
}

#[tokio::test]
async fn missed_deliveries_are_found_and_asked_for_again() {
    let (gh, _, pull) = small().await;
    let (as_app, _) = app_clients(&gh, &gh.install_app(4711, "benchd"));
    gh.webhook("http://127.0.0.1:1/nobody", "s");
    pull.convert_to_draft();
    pull.label("ready");
    gh.settled().await;
    let page = read(&as_app, "/app/hook/deliveries?per_page=1").await;
    assert_eq!(
        (&page[0]["event"], &page[0]["action"], &page[0]["status_code"]),
        (&json!("pull_request"), &json!("labeled"), &json!(0))
    );
    let (_, _, headers) = raw(&as_app, "GET", "/app/hook/deliveries?per_page=1", None, &[]).await;
    let link = headers["link"].to_str().unwrap();
    let next = link.split(['<', '>']).nth(1).unwrap();
    assert_eq!(read(&as_app, next.strip_prefix(gh.url()).unwrap()).await[0]["action"], "converted_to_draft");
    let receiver = Receiver::start(axum::http::StatusCode::ACCEPTED).await;
    gh.webhook(&receiver.url, "s");
    let (id, guid) = (&page[0]["id"], page[0]["guid"].as_str().unwrap());
    assert_eq!(
        read(&as_app, &format!("/app/hook/deliveries/{id}")).await["request"]["payload"]["label"]["name"],
        "ready"
    );
    assert_eq!(raw(&as_app, "POST", &format!("/app/hook/deliveries/{id}/attempts"), None, &[]).await.0, 202);
    gh.settled().await;
    assert_eq!(receiver.got().iter().map(|g| g.guid.as_str()).collect::<Vec<_>>(), [guid]);
    let newest = read(&as_app, "/app/hook/deliveries").await[0].clone();
    assert_eq!((&newest["redelivery"], &newest["status_code"]), (&json!(true), &json!(202)));
    gh.advance(TimeDelta::days(4));
    assert_eq!(raw(&as_app, "POST", &format!("/app/hook/deliveries/{id}/attempts"), None, &[]).await.0, 422);
    let anonymous = client(gh.url(), None);
    assert_eq!(raw(&anonymous, "GET", "/app/hook/deliveries", None, &[]).await.0, 401);
}
