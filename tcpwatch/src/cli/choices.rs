//! `ValueEnum` implementations for types of other modules.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::explain::lang::Lang;
use crate::input::latency::LatencyBy;
use crate::input::owner::OwnerBy;
use crate::model::snapshot::GroupBy;
use crate::view::Output;
use crate::view::screen::Color;

impl ValueEnum for GroupBy {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.key()))
    }
}

impl ValueEnum for Lang {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.key()))
    }
}

impl ValueEnum for LatencyBy {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::KEYS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        self.key().map(PossibleValue::new)
    }
}

impl ValueEnum for OwnerBy {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.key()))
    }
}

impl ValueEnum for Output {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Text, Self::Json, Self::Csv]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Csv => "csv",
        }))
    }
}

impl ValueEnum for Color {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Auto, Self::Always, Self::Never]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        }))
    }
}
