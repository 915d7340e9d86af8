"""Operations whose second derivative torch takes the long way round, with one that goes straight."""
