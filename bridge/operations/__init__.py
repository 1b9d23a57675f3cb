"""Operations: logs, metrics and health."""
