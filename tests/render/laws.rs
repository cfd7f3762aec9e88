//! Laws of rendering.
