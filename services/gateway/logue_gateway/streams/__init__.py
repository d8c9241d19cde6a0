"""From chat.stream to clients: reading frames, choosing what each client must see, writing it."""
