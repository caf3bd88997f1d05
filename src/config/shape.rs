//! Shapes that a YAML value may take: one or a list, a short form or a mapping. They visit the value directly, so that
//! an error inside keeps its path and its line (an untagged enum would lose both).

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Reads a single text or a list of texts as a list.
pub fn one_or_many<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct OneOrMany<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMany<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a list of texts")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![T::deserialize(StrDeserializer::new(text))?])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(list))
        }
    }

    deserializer.deserialize_any(OneOrMany(PhantomData))
}

/// A value that is written as one text or as a mapping of type `M`.
pub enum TextOr<M> {
    /// The short form.
    Text(String),
    /// The long form.
    Mapping(M),
}

/// What a reader of [`TextOr`] says it expected.
pub trait Expecting {
    /// For example `a folder or a mapping with git, ref and path`.
    const EXPECTING: &'static str;
}

impl<'de, M: Deserialize<'de> + Expecting> Deserialize<'de> for TextOr<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shape<M>(PhantomData<M>);

        impl<'de, M: Deserialize<'de> + Expecting> Visitor<'de> for Shape<M> {
            type Value = TextOr<M>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(M::EXPECTING)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextOr::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                M::deserialize(MapAccessDeserializer::new(map)).map(TextOr::Mapping)
            }
        }

        deserializer.deserialize_any(Shape(PhantomData))
    }
}

/// Reads a mapping of environment variables; a plain number or `true` is taken as its text.
pub fn variables<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    Ok(Some(BTreeMap::<String, Plain>::deserialize(deserializer)?.into_iter().map(|(k, v)| (k, v.0)).collect()))
}

/// [`variables`] where an empty mapping is the default.
pub fn variables_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    variables(deserializer).map(Option::unwrap_or_default)
}

/// A text, a whole number or a truth value, kept as text.
struct Plain(String);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PlainVisitor;

        impl Visitor<'_> for PlainVisitor {
            type Value = Plain;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text (a number with a point goes in quotes)")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Plain(text.to_owned()))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(Plain(String::new()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Plain(number.to_string()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Plain(number.to_string()))
            }

            fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Self::Value, E> {
                Ok(Plain(truth.to_string()))
            }
        }

        deserializer.deserialize_any(PlainVisitor)
    }
}

/// A duration that may be added to an instant.
pub mod duration {
    use std::time::Duration;

    use serde::Deserializer;
    use serde::de::Error;

    pub use humantime_serde::serialize;

    /// Ten years: longer is a mistake.
    const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

    /// Reads a duration of at most ten years.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let duration: Duration = humantime_serde::deserialize(deserializer)?;
        if duration > LONGEST {
            return Err(D::Error::custom("longer than 10 years, which is the longest"));
        }
        Ok(duration)
    }
}

/// A duration, or `none` for no limit.
pub mod limit {
    use std::fmt;
    use std::time::Duration;

    use serde::de::value::StrDeserializer;
    use serde::de::{self, Visitor};
    use serde::{Deserializer, Serializer};

    /// Writes `none` or the duration.
    pub fn serialize<S: Serializer>(limit: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match limit {
            Some(limit) => humantime_serde::serialize(limit, serializer),
            None => serializer.serialize_str("none"),
        }
    }

    /// Reads `none` or a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        struct Limit;

        impl Visitor<'_> for Limit {
            type Value = Option<Duration>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                match text {
                    "none" => Ok(None),
                    text => super::duration::deserialize(StrDeserializer::new(text)).map(Some),
                }
            }
        }

        deserializer.deserialize_any(Limit)
    }
}

/// A duration that is written in days where it is whole ones: `90days`, not `2months 29days ..`.
pub mod days {
    use std::time::Duration;

    use serde::Serializer;

    pub use super::duration::deserialize;

    const DAY_S: u64 = 24 * 3600;

    /// Writes the duration.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        match duration.as_secs() {
            seconds if seconds > 0 && seconds % DAY_S == 0 && duration.subsec_nanos() == 0 => {
                serializer.collect_str(&format_args!("{}days", seconds / DAY_S))
            }
            _ => humantime_serde::serialize(duration, serializer),
        }
    }
}
