"""The templates that mealkit renders."""
