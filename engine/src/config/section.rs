//! A section of the configuration: a struct whose fields are settings, defined once.
//!
//! The macro [`section!`] takes a struct with a docstring, type, default and range per field, and makes from it the
//! struct, its `Default` and its [`Section`]: the table by which files and the environment are read, unknown keys found and
//! `config.yaml` written. So a setting cannot lack its comment, its range or its place in the file.

use serde_yaml::Value;

use super::setting::Key;

/// A value on its way into a setting.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    /// From a file.
    Yaml(&'a Value),
    /// From the environment.
    Text(&'a str),
}

/// Settings by name.
pub(crate) trait Section {
    /// The settings directly in this section, in the order in which they are shown.
    fn keys(&self) -> &'static [Key];

    /// The sections within this section, in the order in which they are shown.
    fn section_names(&self) -> &'static [&'static str];

    /// A section within this one.
    fn section(&self, name: &str) -> Option<&dyn Section>;

    /// A section within this one, to be written.
    fn section_mut(&mut self, name: &str) -> Option<&mut dyn Section>;

    /// Sets one of [`Section::keys`].
    ///
    /// # Errors
    /// The reason, if the value is of the wrong type or out of range.
    fn set(&mut self, key: &Key, input: Input<'_>) -> Result<(), String>;

    /// One of [`Section::keys`] as YAML on one line.
    fn show(&self, key: &Key) -> String;

    /// The setting of that name.
    fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys().iter().find(|key| key.name == name)
    }
}

/// Defines a section; see the module. `others` are fields that are no settings: their owner reads and shows them.
macro_rules! section {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $kind:ty = $default:expr
                    $(, in $least:literal..=$most:expr)? $(, check $check:path)? $(, loose = $loose:literal)?;
            )*
            $(sections: $($(#[doc = $sdoc:literal])+ $section:ident: $stype:ty;)+)?
            $(others: $($(#[doc = $odoc:literal])+ $other:ident: $otype:ty = $oinit:expr;)+)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $kind,)*
            $($($(#[doc = $sdoc])+ pub $section: $stype,)+)?
            $($($(#[doc = $odoc])+ pub $other: $otype,)+)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* $($($section: Default::default(),)+)? $($($other: $oinit,)+)? }
            }
        }

        impl $crate::config::section::Section for $name {
            fn keys(&self) -> &'static [$crate::config::setting::Key] {
                use $crate::config::section::range;
                const KEYS: &[$crate::config::setting::Key] = &[$($crate::config::setting::Key {
                    name: stringify!($field),
                    doc: concat!($($doc),+).trim_ascii_start(),
                    range: range(&[$($least, $most)?]),
                    loose: false $(|| $loose)?,
                }),*];
                KEYS
            }

            fn section_names(&self) -> &'static [&'static str] {
                &[$($(stringify!($section)),+)?]
            }

            fn section(&self, name: &str) -> Option<&dyn $crate::config::section::Section> {
                match name {
                    $($(stringify!($section) => Some(&self.$section),)+)?
                    _ => None,
                }
            }

            fn section_mut(&mut self, name: &str) -> Option<&mut dyn $crate::config::section::Section> {
                match name {
                    $($(stringify!($section) => Some(&mut self.$section),)+)?
                    _ => None,
                }
            }

            fn set(
                &mut self,
                key: &$crate::config::setting::Key,
                input: $crate::config::section::Input<'_>,
            ) -> Result<(), String> {
                use $crate::config::{section::Input, setting::Setting};
                match key.name {
                    $(stringify!($field) => {
                        let value = match input {
                            Input::Yaml(value) => <$kind as Setting>::from_yaml(value, key)?,
                            Input::Text(text) => <$kind as Setting>::from_text(text, key)?,
                        };
                        $($check(&value)?;)?
                        self.$field = value;
                        Ok(())
                    })*
                    other => unreachable!("{other} is not a key of this section"),
                }
            }

            fn show(&self, key: &$crate::config::setting::Key) -> String {
                match key.name {
                    $(stringify!($field) => $crate::config::setting::Setting::to_yaml(&self.$field),)*
                    other => unreachable!("{other} is not a key of this section"),
                }
            }
        }
    };
}
pub(crate) use section;

/// The range given in a definition, as a constant.
pub(crate) const fn range(bounds: &[u64]) -> Option<(u64, u64)> {
    match bounds {
        [least, most] => Some((*least, *most)),
        _ => None,
    }
}
