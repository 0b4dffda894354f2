//! What is serialized, without its secrets: every text goes through the redactor on its way, whatever the type.

use std::cell::RefCell;
use std::fmt::Display;

use serde::ser::{
    self, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::Redactor;

/// A value that serializes without its secrets. Names of secrets are the keys of maps; the fields of our own types
/// are not.
pub struct Redacted<'a, T: ?Sized> {
    value: &'a T,
    redactor: &'a RefCell<Redactor>,
    /// The key in front, where the value stands in a map.
    name: Option<&'a str>,
}

impl<'a, T: ?Sized> Redacted<'a, T> {
    /// `value` through `redactor`.
    #[must_use]
    pub fn new(value: &'a T, redactor: &'a RefCell<Redactor>) -> Self {
        Self {
            value,
            redactor,
            name: None,
        }
    }
}

impl<T: Serialize + ?Sized> Serialize for Redacted<'_, T> {
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Through {
            inner,
            redactor: self.redactor,
            name: self.name,
        })
    }
}

/// Hands everything on, texts redacted.
struct Through<'a, S> {
    inner: S,
    redactor: &'a RefCell<Redactor>,
    name: Option<&'a str>,
}

/// The same for what has parts.
struct Parts<'a, S> {
    inner: S,
    redactor: &'a RefCell<Redactor>,
    /// The name that all parts stand behind, if there is one.
    name: Option<&'a str>,
    /// Key of the value to come.
    key: Option<String>,
}

macro_rules! plain {
    ($($method:ident($type:ty);)*) => {
        $(fn $method(self, v: $type) -> Result<S::Ok, S::Error> {
            self.inner.$method(v)
        })*
    };
}

impl<'a, S: Serializer> Through<'a, S> {
    fn parts<P>(
        self,
        make: impl FnOnce(S) -> Result<P, S::Error>,
    ) -> Result<Parts<'a, P>, S::Error> {
        Ok(Parts {
            inner: make(self.inner)?,
            redactor: self.redactor,
            name: self.name,
            key: None,
        })
    }
}

impl<'a, S: Serializer> Serializer for Through<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Parts<'a, S::SerializeSeq>;
    type SerializeTuple = Parts<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Parts<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Parts<'a, S::SerializeTupleVariant>;
    type SerializeMap = Parts<'a, S::SerializeMap>;
    type SerializeStruct = Parts<'a, S::SerializeStruct>;
    type SerializeStructVariant = Parts<'a, S::SerializeStructVariant>;

    plain! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_unit_struct(&'static str);
    }

    fn serialize_str(self, text: &str) -> Result<S::Ok, S::Error> {
        let mut redactor = self.redactor.borrow_mut();
        let clean = match self.name {
            Some(name) => redactor.named(name, text),
            None => redactor.text(text),
        };
        self.inner.serialize_str(&clean)
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<S::Ok, S::Error> {
        let clean = self.redactor.borrow_mut().bytes(bytes).into_owned();
        self.inner.serialize_bytes(&clean)
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let part = Redacted {
            value,
            redactor: self.redactor,
            name: self.name,
        };
        self.inner.serialize_some(&part)
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let part = Redacted::new(value, self.redactor);
        self.inner.serialize_newtype_struct(name, &part)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let part = Redacted::new(value, self.redactor);
        self.inner
            .serialize_newtype_variant(name, index, variant, &part)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.parts(|s| s.serialize_seq(len))
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.parts(|s| s.serialize_tuple(len))
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.parts(|s| s.serialize_tuple_struct(name, len))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.parts(|s| s.serialize_tuple_variant(name, index, variant, len))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.parts(|s| s.serialize_map(len))
    }

    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        self.parts(|s| s.serialize_struct(name, len))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.parts(|s| s.serialize_struct_variant(name, index, variant, len))
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.serialize_str(&value.to_string())
    }
}

macro_rules! listed {
    ($($trait:ident::$method:ident;)*) => {
        $(impl<S: $trait> $trait for Parts<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
                let part = Redacted { value, redactor: self.redactor, name: self.name };
                self.inner.$method(&part)
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.inner.end()
            }
        })*
    };
}

listed! {
    SerializeSeq::serialize_element;
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field;
}

macro_rules! fielded {
    ($($trait:ident;)*) => {
        $(impl<S: $trait> $trait for Parts<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), S::Error> {
                let part = Redacted::new(value, self.redactor);
                self.inner.serialize_field(key, &part)
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.inner.end()
            }
        })*
    };
}

fielded! {
    SerializeStruct;
    SerializeStructVariant;
}

impl<S: SerializeMap> SerializeMap for Parts<'_, S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        let text = serde_json::to_value(key).map_err(ser::Error::custom)?;
        let text = text
            .as_str()
            .map_or_else(|| text.to_string(), str::to_owned);
        let clean = self.redactor.borrow_mut().text(&text).into_owned();
        self.inner.serialize_key(&clean)?;
        self.key = Some(text);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        let key = self.key.take();
        let part = Redacted {
            value,
            redactor: self.redactor,
            name: key.as_deref(),
        };
        self.inner.serialize_value(&part)
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.inner.end()
    }
}
