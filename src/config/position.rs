//! Finds the line and column of a key or value: the YAML parser tells places only in its errors, so a reader walks to
//! the wanted value and fails there on purpose.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fault::{KeyPath, Place, Step};

/// What of a path is looked for.
#[derive(Clone, Copy)]
pub enum Part {
    /// The key itself, where the path ends in one.
    Key,
    /// Its value.
    Value,
}

/// Where `path` stands in `text`; the nearest thing above it that is written, where it is not.
pub fn locate(text: &str, path: &KeyPath, part: Part) -> Place {
    let mut steps = path.0.as_slice();
    let mut part = part;
    loop {
        if let Some(place) = fail_at(text, steps, part) {
            return place;
        }
        // A value that is not written belongs to the nearest key above, which is more telling than its content.
        part = Part::Key;
        match steps.split_last() {
            Some((_, above)) => steps = above,
            None => return Place::START,
        }
    }
}

/// A key that stands twice in one mapping: its second place, and its path.
pub fn repeated_key(text: &str) -> Option<(Place, KeyPath)> {
    let mut found = None;
    let seed = Unique { path: KeyPath::default(), found: &mut found };
    let error = seed.deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    Some((place_of(&error)?, found?))
}

/// The place an error of the parser tells.
pub fn place_of(error: &serde_yaml::Error) -> Option<Place> {
    error.location().map(|at| Place { line: at.line(), column: at.column() })
}

fn fail_at(text: &str, steps: &[Step], part: Part) -> Option<Place> {
    let mut reached = false;
    let walk = Walk { steps, part, reached: &mut reached };
    let error = walk.deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    place_of(&error).filter(|_| reached)
}

/// Fails at whatever it is given.
struct Here;

impl Visitor<'_> for Here {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}

/// Goes down `steps` and fails there.
struct Walk<'a> {
    steps: &'a [Step],
    part: Part,
    reached: &'a mut bool,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.steps {
            [] => {
                *self.reached = true;
                deserializer.deserialize_any(Here)
            }
            [_, ..] => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Step::Key(wanted), below)) = self.steps.split_first() else {
            return skip_entries(map);
        };
        let fails = below.is_empty() && matches!(self.part, Part::Key);
        while let Some(same) = map.next_key_seed(KeyIs { wanted, fails, reached: &mut *self.reached })? {
            if same {
                map.next_value_seed(Walk { steps: below, part: self.part, reached: &mut *self.reached })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((Step::Index(wanted), below)) = self.steps.split_first() else {
            return skip_elements(list);
        };
        for _ in 0..*wanted {
            list.next_element::<IgnoredAny>()?;
        }
        list.next_element_seed(Walk { steps: below, part: self.part, reached: &mut *self.reached })?;
        skip_elements(list)
    }
}

fn skip_entries<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

fn skip_elements<'de, A: SeqAccess<'de>>(mut list: A) -> Result<(), A::Error> {
    while list.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

/// Whether a key is the wanted one; fails at it when the key itself is what is looked for.
struct KeyIs<'a> {
    wanted: &'a str,
    fails: bool,
    reached: &'a mut bool,
}

impl<'de> DeserializeSeed<'de> for KeyIs<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyIs<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        match key == self.wanted && self.fails {
            true => {
                *self.reached = true;
                Err(E::custom("the wanted key"))
            }
            false => Ok(key == self.wanted),
        }
    }
}

/// Walks everything and fails at the first key that its mapping already has.
struct Unique<'a> {
    path: KeyPath,
    found: &'a mut Option<KeyPath>,
}

impl<'de> DeserializeSeed<'de> for Unique<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen: Vec<String> = Vec::new();
        while let Some(key) = map.next_key_seed(NewKey { seen: &seen, path: &self.path, found: &mut *self.found })? {
            map.next_value_seed(Unique { path: self.path.key(&key), found: &mut *self.found })?;
            seen.push(key);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(()) = list.next_element_seed(Unique { path: self.path.index(index), found: &mut *self.found })? {
            index += 1;
        }
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Reads a key and fails when it has been seen.
struct NewKey<'a> {
    seen: &'a [String],
    path: &'a KeyPath,
    found: &'a mut Option<KeyPath>,
}

impl<'de> DeserializeSeed<'de> for NewKey<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NewKey<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<String, E> {
        match self.seen.iter().any(|seen| seen == key) {
            true => {
                *self.found = Some(self.path.key(key));
                Err(E::custom("a repeated key"))
            }
            false => Ok(key.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a:\n  - name: x\n    b: &anchor {c: [1, 2]}\n  - d: *anchor\n    été: 1\n";

    fn path(steps: &[Step]) -> KeyPath {
        KeyPath(steps.to_vec())
    }

    fn key(name: &str) -> Step {
        Step::Key(name.to_owned())
    }

    #[test]
    fn keys_and_values_are_found() {
        let at = |steps: &[Step], part| {
            let Place { line, column } = locate(TEXT, &path(steps), part);
            (line, column)
        };
        assert_eq!(at(&[key("a")], Part::Key), (1, 1));
        assert_eq!(at(&[key("a"), Step::Index(0), key("b")], Part::Key), (3, 5));
        assert_eq!(at(&[key("a"), Step::Index(0), key("b"), key("c"), Step::Index(1)], Part::Value), (3, 24));
        assert_eq!(at(&[key("a"), Step::Index(1), key("été")], Part::Value), (5, 10));
        assert_eq!(at(&[key("a"), Step::Index(1)], Part::Value), (4, 5));
        // Not written: the nearest key above.
        assert_eq!(at(&[key("a"), Step::Index(0), key("b"), key("zz")], Part::Value), (3, 5));
        assert_eq!(at(&[key("zz"), key("b")], Part::Value), (1, 1));
    }

    #[test]
    fn a_repeated_key_is_found() {
        assert_eq!(repeated_key(TEXT), None);
        let (place, path) = repeated_key("a: 1\nb:\n  - {c: 1, d: 2}\n  - {c: 1, d: 2, c: 3}\n").unwrap();
        assert_eq!((place, path.to_string()), (Place { line: 4, column: 18 }, "b[1].c".to_owned()));
    }
}
