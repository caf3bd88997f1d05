//! The few fields of a webhook's payload that are needed. Everything is optional and of any shape: what does not fit
//! counts as absent, because GitHub's payloads keep to no schema.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};

/// A payload of any event.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Payload {
    pub action: Plain,
    pub number: Plain,
    #[serde(rename = "ref")]
    pub reference: Plain,
    pub ref_type: Plain,
    pub after: Plain,
    pub deleted: Plain,
    pub repository: Part<Repository>,
    pub sender: Part<Account>,
    pub pull_request: Part<PullRequest>,
    pub label: Part<Named>,
    pub issue: Part<Issue>,
    pub comment: Part<Comment>,
    pub check_run: Part<Check>,
    pub check_suite: Part<Check>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Repository {
    pub id: Plain,
    pub full_name: Plain,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Account {
    pub login: Plain,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Named {
    pub name: Plain,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PullRequest {
    pub number: Plain,
    pub merged: Plain,
    pub merged_at: Plain,
    pub merge_commit_sha: Plain,
    pub head: Part<Side>,
    pub base: Part<Side>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Side {
    #[serde(rename = "ref")]
    pub reference: Plain,
    pub sha: Plain,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Issue {
    pub number: Plain,
    pub pull_request: Part<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Comment {
    pub id: Plain,
    pub body: Plain,
    pub user: Part<Account>,
    pub performed_via_github_app: Part<App>,
}

/// A check run, or a suite of them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Check {
    pub id: Plain,
    pub head_sha: Plain,
    pub name: Plain,
    pub external_id: Plain,
    pub app: Part<App>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct App {
    pub id: Plain,
}

/// A plain value, if it is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Plain {
    /// Not there, null, or not plain.
    #[default]
    Absent,
    /// Text.
    Text(String),
    /// A whole number that is not negative.
    Number(u64),
    /// True or false.
    Flag(bool),
}

impl Plain {
    /// The text, if it is one that is not empty.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            Self::Text(_) | Self::Absent | Self::Number(_) | Self::Flag(_) => None,
        }
    }

    /// The number, if it is one.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Absent | Self::Text(_) | Self::Flag(_) => None,
        }
    }

    /// Whether it is true.
    pub fn is_true(&self) -> bool {
        *self == Self::Flag(true)
    }
}

/// An object, if it is one.
#[derive(Debug)]
pub struct Part<T>(pub Option<T>);

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Part<T> {
    /// The object.
    pub fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Plain;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Plain, E> {
        Ok(Plain::Flag(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Plain, E> {
        Ok(Plain::Number(value))
    }

    fn visit_i64<E>(self, _value: i64) -> Result<Plain, E> {
        Ok(Plain::Absent)
    }

    fn visit_f64<E>(self, _value: f64) -> Result<Plain, E> {
        Ok(Plain::Absent)
    }

    fn visit_str<E>(self, value: &str) -> Result<Plain, E> {
        Ok(Plain::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Plain, E> {
        Ok(Plain::Text(value))
    }

    fn visit_unit<E>(self) -> Result<Plain, E> {
        Ok(Plain::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Plain, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Plain::Absent)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Plain, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Plain::Absent)
    }
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainVisitor)
    }
}

struct PartVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for PartVisitor<T> {
    type Value = Part<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E>(self, _value: bool) -> Result<Part<T>, E> {
        Ok(Part(None))
    }

    fn visit_u64<E>(self, _value: u64) -> Result<Part<T>, E> {
        Ok(Part(None))
    }

    fn visit_i64<E>(self, _value: i64) -> Result<Part<T>, E> {
        Ok(Part(None))
    }

    fn visit_f64<E>(self, _value: f64) -> Result<Part<T>, E> {
        Ok(Part(None))
    }

    fn visit_str<E>(self, _value: &str) -> Result<Part<T>, E> {
        Ok(Part(None))
    }

    fn visit_unit<E>(self) -> Result<Part<T>, E> {
        Ok(Part(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Part<T>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Part(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Part<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|part| Part(Some(part)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Part<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PartVisitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_another_shape_is_absent() {
        let odd = r#"{"action": 7, "number": "12", "ref": ["a"], "deleted": null, "repository": "o/r", "sender": [1],
            "pull_request": {"number": -3, "merged": {"a": {"b": []}}, "head": {"sha": 1.5, "repo": null}, "base": true},
            "label": null, "issue": 3, "comment": {"id": 99, "user": {"login": "ann"}}, "after": {"x": 1}, "new": {}}"#;
        let payload: Payload = serde_json::from_str(odd).unwrap();
        assert_eq!((payload.action.text(), payload.number.number(), payload.reference.text()), (None, None, None));
        assert!(payload.repository.get().is_none() && payload.sender.get().is_none());
        let pull = payload.pull_request.get().unwrap();
        assert!(pull.number.number().is_none() && !pull.merged.is_true() && pull.base.get().is_none());
        assert!(pull.head.get().unwrap().sha.text().is_none());
        let comment = payload.comment.get().unwrap();
        assert_eq!((comment.id.number(), comment.user.get().unwrap().login.text()), (Some(99), Some("ann")));
    }

    #[test]
    fn only_an_object_is_a_payload() {
        for text in ["", "{", "payload=%7B%7D", "{\"a\":1} x"] {
            assert!(serde_json::from_str::<Part<Payload>>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Part<Payload>>("[1]").unwrap().get().is_none());
    }
}
